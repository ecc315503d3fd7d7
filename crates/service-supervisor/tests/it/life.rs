//! Services from their start to their end.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Supervisor, idle, is_alive, script};

fn plan(services: &[Value]) -> Value {
    json!({ "services": services })
}

#[tokio::test]
async fn services_start_in_order_and_end_in_reverse() {
    let mut first = script(
        "store",
        "trap 'echo stored; exit 0' TERM; touch $DIR/ready; while :; do sleep 0.05; done",
    );
    first["prepare"] = json!([["/bin/sh", "-c", "echo preparing"]]);
    first["health"] = json!({ "command": ["/bin/sh", "-c", "test -e $DIR/ready"] });
    let second = script(
        "web",
        "test -e $DIR/ready && echo found it; trap 'echo served; exit 0' TERM; echo up; \
         while :; do sleep 0.05; done",
    );
    let mut supervisor = Supervisor::start(&plan(&[first, second]), &[]);
    supervisor.line("web is ready").await;
    supervisor.line("[web] up").await;
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.end().await, 0);
    // What the supervisor says and what a service says may overtake each other by a line.
    let text = supervisor.text();
    let (own, others): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.starts_with("[supervisor]"));
    insta::assert_snapshot!(own.join("\n"), @r"
    [supervisor] store is ready after N s
    [supervisor] web is ready after N s
    [supervisor] told to stop
    [supervisor] web has ended
    [supervisor] store has ended
    ");
    let wanted =
        ["[store] preparing", "[web] found it", "[web] up", "[web] served", "[store] stored"];
    assert_eq!(others, wanted);
}

#[tokio::test]
async fn the_end_of_one_service_is_the_end_of_all() {
    let services = [idle(), script("web", "echo broken >&2; exit 7")];
    let mut supervisor = Supervisor::start(&plan(&services), &[]);
    assert_eq!(supervisor.end().await, 1);
    assert!(supervisor.said.contains(&"[web] broken".to_owned()), "{:?}", supervisor.said);
    // Whether it counted as ready before it ended is a matter of luck.
    supervisor.said.retain(|line| line != "[web] broken" && !line.contains("web is ready"));
    insta::assert_snapshot!(supervisor.text(), @r"
    [supervisor] idle is ready after N s
    [supervisor] service `web` ended by itself with exit status: 7
    [supervisor] web has ended
    [supervisor] idle has ended
    ");
}

#[tokio::test]
async fn a_service_that_is_not_ready_in_time_tells_what_was_seen_last() {
    let mut web = script("web", "exec sleep 1000");
    web["health"] = json!({ "tcp": { "port": 1 } });
    web["ready_within"] = json!(0.3);
    let mut supervisor = Supervisor::start(&plan(&[idle(), web]), &[]);
    assert_eq!(supervisor.end().await, 3);
    let why = "service `web` was not ready within N s: port 1: Connection refused (os error 111)";
    assert!(supervisor.text().contains(why), "{}", supervisor.text());
}

#[tokio::test]
async fn a_preparation_that_fails_keeps_its_service_from_starting() {
    let mut web = script("web", "touch $DIR/started");
    web["prepare"] = json!([["/bin/sh", "-c", "echo no migration; exit 3"]]);
    let mut supervisor = Supervisor::start(&plan(&[web]), &[]);
    assert_eq!(supervisor.end().await, 3);
    assert!(!supervisor.has_file("started"));
    insta::assert_snapshot!(supervisor.text(), @r"
    [web] no migration
    [supervisor] service `web`: its preparation `/bin/sh -c echo no migration; exit 3` ended with exit status: 3
    ");
}

#[tokio::test]
async fn what_is_missing_is_told_before_anything_starts() {
    let mut first = script("store", "touch $DIR/started");
    let mut second = script("web", "touch $DIR/started");
    second["env"]["KEY"] = json!({ "from": "GOAT_NO_SUCH_KEY" });
    let mut supervisor = Supervisor::start(&plan(&[first.clone(), second]), &[]);
    assert_eq!(supervisor.end().await, 2);
    assert_eq!(
        supervisor.text(),
        "[supervisor] service `web` needs the variable `GOAT_NO_SUCH_KEY`, which is not set or empty: \
         is its secret attached?"
    );
    assert!(!supervisor.has_file("started"));

    first["command"] = json!(["/nonexistent/program"]);
    let mut supervisor = Supervisor::start(&plan(&[first]), &[]);
    assert_eq!(supervisor.end().await, 1);
    let text = supervisor.text();
    let why = "[store] can't start `/nonexistent/program`: No such file or directory (os error 2)";
    assert!(text.contains(why), "{text}");
    assert!(text.contains("`store` ended by itself with exit status: 127"), "{text}");
}

#[tokio::test]
async fn nothing_outlives_a_supervisor_that_is_killed() {
    let mut supervisor =
        Supervisor::start(&plan(&[script("web", "echo I am $$; exec sleep 1000")]), &[]);
    let web = supervisor.line("I am").await.rsplit(' ').next().unwrap().to_owned();
    assert!(is_alive(&web));
    supervisor.signal(Signal::KILL);
    while is_alive(&web) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_service_that_will_not_end_is_killed_with_all_it_started() {
    let mut web = script("web", "trap '' TERM; sleep 1000 & echo child $!; while :; do wait; done");
    web["stop"] = json!({ "signal": "TERM", "within": 0.2 });
    let mut supervisor = Supervisor::start(&plan(&[web]), &[]);
    let child = supervisor.line("[web] child").await.rsplit(' ').next().unwrap().to_owned();
    assert!(is_alive(&child));
    supervisor.signal(Signal::INT);
    assert_eq!(supervisor.end().await, 4);
    // SIGKILL was sent; the system needs a moment.
    while is_alive(&child) {
        tokio::task::yield_now().await;
    }
    assert!(supervisor.text().ends_with("killed, because they did not end within their time: web"));
}

#[tokio::test]
async fn a_stop_during_the_start_is_obeyed_at_once() {
    let mut store = script("store", "echo up; exec sleep 1000");
    store["health"] = json!({ "command": ["/bin/false"] });
    let mut supervisor = Supervisor::start(&plan(&[store]), &[]);
    supervisor.line("[store] up").await;
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.end().await, 0);
    assert_eq!(supervisor.said.last().unwrap(), "[supervisor] store has ended");
}

#[tokio::test]
async fn a_service_sees_no_variable_that_its_plan_does_not_name() {
    let mut web = script("web", "env; exec sleep 1000");
    web["env"]["URL"] = json!({ "url": "postgresql://goat:{DB_PASSWORD}@127.0.0.1/x" });
    let secrets = [("DB_PASSWORD", "a/b"), ("MASTER_KEY", "sk-never-seen")];
    let mut supervisor = Supervisor::start(&plan(&[web]), &secrets);
    supervisor.line("URL=postgresql://goat:a%2Fb@127.0.0.1/x").await;
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.end().await, 0);
    let text = supervisor.text();
    assert!(!text.contains("sk-never-seen") && !text.contains("DB_PASSWORD"), "{text}");
}

#[tokio::test]
async fn a_service_runs_as_the_user_that_its_plan_names() {
    if !rustix::process::geteuid().is_root() {
        // Only root may become somebody else: then it is refused by the system and told.
        let mut web = script("web", "id -u");
        web["user"] = json!("0");
        let mut supervisor = Supervisor::start(&plan(&[web]), &[]);
        assert_eq!(supervisor.end().await, 3);
        return;
    }
    let mut web = script("web", "echo I am $(id -u) of $(id -G); exec sleep 1000");
    web["user"] = json!("nobody");
    web["env"] = json!({});
    let mut supervisor = Supervisor::start(&plan(&[web]), &[]);
    let line = supervisor.line("I am").await;
    assert_eq!(line, "[web] I am 65534 of 65534");
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.end().await, 0);
}

#[tokio::test]
async fn a_plan_with_a_mistake_is_refused_by_name() {
    let cases = [
        (json!({ "services": [] }), "it has no service"),
        (plan(&[idle(), idle()]), "two services are called `idle`"),
        (plan(&[json!({ "name": "x" })]), "missing field `command`"),
    ];
    for (plan, words) in cases {
        let mut supervisor = Supervisor::start(&plan, &[]);
        assert_eq!(supervisor.end().await, 2);
        assert!(supervisor.text().contains(words), "{}", supervisor.text());
    }
}
