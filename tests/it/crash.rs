//! The server killed in the middle of its own work: the short form of `cargo xtask soak crash`.

use it::Machine;

#[test]
fn a_server_killed_inside_each_kind_of_work_loses_nothing_and_leaves_nothing() {
    let machine = Machine::new();
    let figures =
        machine.succeed(&["--target", "local", "soak", "crash", "--kills", "7", "--seed", "7"]);
    let inside = [
        "create 1",
        "exec start 1",
        "stream 1",
        "volume commit 1",
        "image layer 1",
        "record write 1",
        "outside 1",
    ];
    for count in inside {
        assert!(figures.contains(count), "`{count}` is missing: {figures}");
    }
}
