//! Prints what the linter finds in files: `cargo run -p litellm-config --example lint -- config.yaml`.

#![expect(clippy::print_stdout, reason = "an example that prints")]

use litellm_config::{Context, VersionSet, lint};

fn main() -> Result<(), std::io::Error> {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path)?;
        for set in VersionSet::all() {
            for finding in lint::lint(&text, &Context::new(set)).findings {
                let (level, rule, line) =
                    (finding.level.name(), finding.rule.name, finding.place.line);
                println!(
                    "{path}:{line}: {level}[{rule}] {}: {} ({})",
                    finding.path, finding.message, set.name
                );
            }
        }
    }
    Ok(())
}
