//! The short form of `cargo xtask soak crash`: each kind of call is killed in once.

use it::Machine;

#[test]
fn a_server_killed_under_load_loses_nothing_and_leaves_nothing() {
    let machine = Machine::new();
    let args = ["soak", "crash", "--target", "local", "--kills", "6", "--seed", "11"];
    let figures = machine.succeed(&args);
    assert!(figures.contains("6 kills of the server"), "{figures}");
}
