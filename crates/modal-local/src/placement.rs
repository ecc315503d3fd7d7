//! Where a client wants its work to run: clouds and regions. Here all work runs on this machine, so they change nothing,
//! but a misspelt one is refused as Modal refuses it.

use modal_proto::client::SchedulerPlacement;

use crate::error::{Error, Result};

/// Source: the enum `CloudProvider` of Modal's API 1.6.4, and <https://modal.com/docs/guide/region-selection>.
const CLOUDS: [&str; 4] = ["aws", "gcp", "oci", "auto"];

/// How the regions of those clouds begin, Modal's own wide ones (`us`, `us-east`, `eu`) included.
///
/// Source: <https://modal.com/docs/guide/region-selection> (US, EU, UK, AP, CA, SA, ME, MX, AF, JP), the lists of regions of
/// AWS, Google Cloud (`europe-`, `asia-`, `northamerica-`, …) and Oracle Cloud; read 2026-11-27.
const AREAS: [&str; 18] = [
    "us",
    "eu",
    "uk",
    "ap",
    "ca",
    "sa",
    "me",
    "mx",
    "af",
    "jp",
    "il",
    "europe",
    "asia",
    "northamerica",
    "southamerica",
    "australia",
    "africa",
    "auto",
];

/// Refuses clouds and regions that Modal does not have.
///
/// # Errors
///
/// `Invalid`, with the name.
pub(crate) fn check(cloud: &str, placement: Option<&SchedulerPlacement>) -> Result<()> {
    if !cloud.is_empty() && !CLOUDS.iter().any(|known| cloud.eq_ignore_ascii_case(known)) {
        let known = CLOUDS.join(", ");
        return Err(Error::invalid(format!("Invalid cloud provider: {cloud} (there are {known})")));
    }
    let regions = placement.map_or(&[][..], |placement| &placement.regions);
    match regions.iter().find(|region| !is_region(region)) {
        Some(region) => Err(Error::invalid(format!("Invalid region: {region}"))),
        None => Ok(()),
    }
}

fn is_region(region: &str) -> bool {
    let region = region.to_ascii_lowercase();
    let area = region.split('-').next().unwrap_or_default();
    AREAS.contains(&area)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_modal_has_is_taken_and_nothing_else() {
        let regions = |regions: &[&str]| SchedulerPlacement {
            regions: regions.iter().map(|&it| it.to_owned()).collect(),
            ..SchedulerPlacement::default()
        };
        let known = regions(&["us", "us-east-1", "eu-west", "europe-west4", "uk-london-1"]);
        check("", None).unwrap();
        check("aws", Some(&known)).unwrap();
        let refusal = |cloud, names| check(cloud, Some(&regions(names))).unwrap_err().to_string();
        insta::assert_snapshot!(refusal("moon", &[]), @"Invalid cloud provider: moon (there are aws, gcp, oci, auto)");
        insta::assert_snapshot!(refusal("", &["us-west-2", "atlantis-1"]), @"Invalid region: atlantis-1");
    }
}
