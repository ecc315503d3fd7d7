//! The program: told by the environment, says its address, stops on SIGTERM.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use test_postgres::Postgres;

use crate::harness::{PUBLIC, SECRET};

#[tokio::test]
async fn the_program_serves_until_it_is_told_to_stop() {
    let postgres = Postgres::start("langfuse");
    let mut child = Command::new(env!("CARGO_BIN_EXE_langfuse-local"))
        .env_clear()
        .envs([("DATABASE_URL", postgres.url().as_str()), ("SALT", "pepper"), ("PORT", "0")])
        .envs([("LANGFUSE_INIT_ORG_ID", "o"), ("LANGFUSE_INIT_PROJECT_ID", "p")])
        .env("LANGFUSE_INIT_PROJECT_PUBLIC_KEY", PUBLIC)
        .env("LANGFUSE_INIT_PROJECT_SECRET_KEY", SECRET)
        .envs([
            ("LANGFUSE_INIT_USER_EMAIL", "Admin@goat.local"),
            ("LANGFUSE_INIT_USER_PASSWORD", "w"),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let http = reqwest::Client::builder().tls_backend_preconfigured(tls_config::client_config());
    let asked = http.build().unwrap().get(format!("{}/api/public/projects", url.trim()));
    let answer = asked.basic_auth(PUBLIC, Some(SECRET)).send().await.unwrap();
    assert_eq!(
        answer.text().await.unwrap(),
        r#"{"data":[{"id":"p","name":"Provisioned Project"}]}"#
    );
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(!stderr.contains(SECRET), "{stderr}");
}

#[test]
fn a_missing_variable_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_langfuse-local"))
        .env_clear()
        .env("DATABASE_URL", "postgresql://u:hidden@127.0.0.1:1/d")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("`SALT` is not set") && !stderr.contains("hidden"), "{stderr}");
}
