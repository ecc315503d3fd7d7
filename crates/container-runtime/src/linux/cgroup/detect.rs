//! Reads from `/proc` what is mounted and where this process is, and makes the instance's groups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::group::{ContainerGroup, keyed, remove_group};
use crate::capabilities::LimitsBackend;
use crate::spec::{ContainerId, Limits};

/// Version 1 controllers that are used; the first two are needed.
const V1_CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "cpuacct"];

/// The instance's groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    /// Version 2, with controllers or only for killing.
    pub(super) unified: Option<PathBuf>,
    /// Whether version 2 enforces limits.
    pub(super) unified_limits: bool,
    /// Version 1: controller and group.
    pub(super) v1: Vec<(&'static str, PathBuf)>,
    /// Why limits are weaker than they could be.
    pub(crate) note: Option<String>,
}

impl Groups {
    /// Finds the best back end and makes the groups called `instance` in it.
    pub(crate) fn set_up(instance: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::choose(&Hierarchies::parse(&mounts, &own), instance)
    }

    fn choose(found: &Hierarchies, instance: &str) -> Self {
        let mut reasons = Vec::new();
        let mut groups = Self::default();
        for base in found.unified_bases() {
            match make_unified(&base, instance) {
                Ok(group) => {
                    return Self { unified: Some(group), unified_limits: true, ..groups };
                }
                Err(reason) => reasons.push(reason),
            }
        }
        match make_v1(found, instance) {
            Ok(v1) => groups.v1 = v1,
            Err(reason) => {
                reasons.push(reason);
                groups.note = Some(format!("no control groups ({})", reasons.join("; ")));
            }
        }
        groups.unified = found.unified_bases().iter().find_map(|base| {
            let group = base.join(instance);
            (make(&group).is_ok() && group.join("cgroup.kill").exists()).then_some(group)
        });
        groups
    }

    /// What enforces limits.
    pub(crate) fn backend(&self) -> LimitsBackend {
        match (self.unified_limits, self.v1.is_empty()) {
            (true, _) => LimitsBackend::V2,
            (false, false) => LimitsBackend::V1,
            (false, true) => LimitsBackend::Rlimits,
        }
    }

    /// Bytes that the groups above allow all containers together.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        if let (Some(group), true) = (&self.unified, self.unified_limits) {
            let limit = |group: &Path| fs::read_to_string(group.join("memory.max")).ok();
            return group
                .ancestors()
                .filter_map(limit)
                .filter_map(|it| it.trim().parse().ok())
                .min();
        }
        let (_, group) = self.v1.iter().find(|(controller, _)| *controller == "memory")?;
        let text = fs::read_to_string(group.join("memory.stat")).ok()?;
        keyed(&text, "hierarchical_memory_limit")
    }

    /// Whether each exec can have a group of its own.
    pub(crate) fn exec_groups(&self) -> bool {
        self.unified.is_some()
    }

    /// Every directory made; all go when the instance ends.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        self.v1.iter().map(|(_, group)| group).chain(&self.unified).cloned().collect()
    }

    /// A container's group with its limits in force.
    pub(crate) fn create(&self, id: &ContainerId, limits: &Limits) -> io::Result<ContainerGroup> {
        ContainerGroup::create(self, id, limits)
    }

    /// Removes the instance's groups, with whatever is still in them.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.directories().iter().try_for_each(|group| remove_group(group))
    }
}

/// Where all hierarchies that are used are mounted.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = Hierarchies::parse(&mounts, "");
    let v1 = found.v1.into_iter().map(|(_, point, _)| point);
    let mut points: Vec<PathBuf> = v1.chain(found.unified.map(|(point, _)| point)).collect();
    points.sort();
    points.dedup();
    points
}

/// What is mounted, and where this process is in it.
#[derive(Debug, Default, PartialEq)]
struct Hierarchies {
    /// Mount point of version 2 and the own group's path in it.
    unified: Option<(PathBuf, PathBuf)>,
    /// The same for each version 1 controller.
    v1: Vec<(&'static str, PathBuf, PathBuf)>,
}

impl Hierarchies {
    fn parse(mounts: &str, own: &str) -> Self {
        let own_path = |wanted: &dyn Fn(&str) -> bool| {
            own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (controllers, path) = (fields.next()?, fields.next()?);
                wanted(controllers).then(|| PathBuf::from(path.trim_start_matches('/')))
            })
        };
        let mut found = Self::default();
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(point), Some(kind), Some(options)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if kind == "cgroup2" && found.unified.is_none() {
                let path = own_path(&|controllers| controllers.is_empty()).unwrap_or_default();
                found.unified = Some((point.into(), path));
            }
            if kind == "cgroup" {
                for controller in V1_CONTROLLERS {
                    if options.split(',').any(|option| option == controller) {
                        let path = own_path(&|all| all.split(',').any(|one| one == controller));
                        found.v1.push((controller, point.into(), path.unwrap_or_default()));
                    }
                }
            }
        }
        found
    }

    /// Where a version 2 group could be made: below the own group, else at the top.
    fn unified_bases(&self) -> Vec<PathBuf> {
        let Some((point, own)) = &self.unified else { return Vec::new() };
        let mut bases = vec![point.join(own)];
        if !own.as_os_str().is_empty() {
            bases.push(point.clone());
        }
        bases.retain(|base| base.is_dir());
        bases
    }
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// A version 2 group whose children can be limited.
fn make_unified(base: &Path, instance: &str) -> Result<PathBuf, String> {
    let shown = base.display();
    let offered = fs::read_to_string(base.join("cgroup.controllers"))
        .map_err(|error| format!("cgroup v2 at {shown}: {error}"))?;
    let has = |wanted: &str| offered.split_ascii_whitespace().any(|one| one == wanted);
    if !has("memory") || !has("pids") {
        return Err(format!("cgroup v2 at {shown} has no memory and pids controllers"));
    }
    let wanted = if has("cpu") { "+memory +pids +cpu" } else { "+memory +pids" };
    enable(base, wanted).map_err(|error| format!("cgroup v2 at {shown}: {error}"))?;
    let group = base.join(instance);
    make(&group)
        .and_then(|()| fs::write(group.join("cgroup.subtree_control"), wanted))
        .map_err(|error| format!("cgroup v2 at {shown}: {error}"))?;
    Ok(group)
}

/// Offers controllers to children. A group with members may not, unless it is the top; if the only member is this
/// very process (a scope made for it), it moves into a leaf of its own first.
fn enable(base: &Path, wanted: &str) -> io::Result<()> {
    let control = base.join("cgroup.subtree_control");
    match fs::write(&control, wanted) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let members = fs::read_to_string(base.join("cgroup.procs"))?;
            if members.trim() != std::process::id().to_string() {
                return Err(error);
            }
            let leaf = base.join("server");
            make(&leaf)?;
            fs::write(leaf.join("cgroup.procs"), "0")?;
            fs::write(&control, wanted)
        }
        other => other,
    }
}

fn make_v1(found: &Hierarchies, instance: &str) -> Result<Vec<(&'static str, PathBuf)>, String> {
    let mut groups = Vec::new();
    for (controller, point, own) in &found.v1 {
        let base = point.join(own);
        let base = if base.is_dir() { base } else { point.clone() };
        let group = base.join(instance);
        match make(&group) {
            Ok(()) => groups.push((*controller, group)),
            Err(error) => {
                if matches!(*controller, "memory" | "pids") {
                    return Err(format!("cgroup v1 {controller}: {error}"));
                }
            }
        }
    }
    let has = |wanted: &str| groups.iter().any(|(controller, _)| *controller == wanted);
    if has("memory") && has("pids") {
        return Ok(groups);
    }
    Err("no cgroup v1 memory and pids controllers".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_hierarchies_are_recognised() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let own = "4:memory:/some/group\n1:cpu:/\n0::/\n";
        let found = Hierarchies::parse(mounts, own);
        assert_eq!(found.unified, Some(("/sys/fs/cgroup/unified".into(), "".into())));
        assert_eq!(
            found.v1,
            [
                ("cpu", "/sys/fs/cgroup/cpu".into(), "".into()),
                ("memory", "/sys/fs/cgroup/memory".into(), "some/group".into())
            ]
        );
    }

    #[test]
    fn version_2_is_chosen_where_its_controllers_are_offered() {
        let top = tempfile::tempdir().unwrap();
        let scope = top.path().join("scope");
        fs::create_dir(&scope).unwrap();
        fs::write(scope.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let found =
            Hierarchies { unified: Some((top.path().into(), "scope".into())), v1: Vec::new() };
        let groups = Groups::choose(&found, "me");
        assert_eq!(groups.backend(), LimitsBackend::V2);
        let control = fs::read_to_string(scope.join("me/cgroup.subtree_control")).unwrap();
        assert_eq!(control, "+memory +pids +cpu");
        let limits =
            Limits { memory: Some(1 << 20), cpu: Some(1.5), pids: Some(7), file_size: None };
        let group = groups.create(&"box".parse().unwrap(), &limits).unwrap();
        let read = |file: &str| fs::read_to_string(scope.join("me/box").join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(read("pids.max"), "7");
        assert_eq!(group.exec_groups(), Some(scope.join("me/box").as_path()));
    }

    #[test]
    fn without_controllers_the_reason_is_told() {
        let groups = Groups::choose(&Hierarchies::default(), "me");
        assert_eq!(groups.backend(), LimitsBackend::Rlimits);
        assert!(groups.note.unwrap().contains("no cgroup v1 memory"));
    }
}
