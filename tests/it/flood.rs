//! Requests while what is behind the proxy is killed: the short form of `cargo xtask soak flood`.

use it::Machine;
use serde_json::Value;

#[test]
fn every_request_is_answered_with_its_own_number_and_every_trace_is_there_or_told_as_lost() {
    // The same programs as the deployment's test builds, in half the time: what is measured here is not their speed.
    let machine = Machine::new().with("CARGO_PROFILE_SERVICE_OPT_LEVEL", "0");
    let seed = "7";
    let answer = machine.succeed(&[
        "--output",
        "json",
        "soak",
        "flood",
        "--requests",
        "120",
        "--seed",
        seed,
    ]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let figures = &answer["figures"];
    let answered = &figures["answered"];
    assert_eq!((&answered["right"], &answered["wrong"]), (&Value::from(120), &Value::from(0)));
    let (traces, counts) = (&figures["traces"], &figures["traces"]["counts"]);
    assert_eq!(traces["wrong"], Value::Array(Vec::new()), "{figures}");
    assert_eq!((&counts["refused"], &counts["dropped"]), (&Value::from(0), &Value::from(0)));
}
