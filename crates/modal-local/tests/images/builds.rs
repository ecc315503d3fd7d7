//! Builds on this machine's own programs.

use std::path::Path;

use modal_local::BasePolicy;
use modal_proto::client::ImageContextFile;
use tonic::Code;

use crate::harness::{Local, directory, image, image_on, prepared_base, request};

/// A server that has the base already: putting it together takes many seconds.
async fn start(directory: &Path) -> (Local, String) {
    let base = prepared_base(directory).await;
    (Local::start(directory, BasePolicy::Host).await, base)
}

#[tokio::test]
async fn steps_see_what_the_steps_before_them_left() {
    let directory = directory();
    let (local, base) = start(directory.path()).await;
    let secret = local.secret("TOKEN", "s3cr3t").await;
    let mut definition = image_on(
        &base,
        &[
            "ARG WHO=nobody",
            "ENV GREETING='hello  \"$WHO\"' PATH=/opt/bin:$PATH",
            "WORKDIR /work/sub",
            "RUN echo \"$GREETING\" > file && test ${#TOKEN} = 6",
            "COPY --chmod=755 /.script /opt/bin/script",
            "RUN [\"script\", \"exec form\"]",
            "SHELL [\"/bin/bash\", \"-c\"]",
            "RUN [[ $(pwd) == /work/sub ]] && cat file ../made-by-script",
            "RUN rm file && mkdir sub2 && ln -s /etc link",
            "USER 1234:1234",
            "RUN id -u && ! touch /work/sub/no",
        ],
    );
    definition.secret_ids.push(secret);
    definition.context_files.push(ImageContextFile {
        filename: "/.script".to_owned(),
        data: b"#!/bin/sh\necho \"$1\" | tee /work/made-by-script\n".to_vec(),
    });
    let first = local.build(definition.clone()).await.succeeded();
    assert!(first.log.contains("hello  \"$WHO\"\nexec form\n"), "{}", first.log);
    assert!(first.log.contains("\n1234\n"), "{}", first.log);
    assert!(!first.log.contains("s3cr3t"), "{}", first.log);

    let again = local.build(definition.clone()).await.succeeded();
    assert_eq!((&again.id, again.log.as_str()), (&first.id, ""), "built once");

    definition.dockerfile_commands.push("RUN test ! -e /work/sub/file".to_owned());
    let longer = local.build(definition).await.succeeded();
    assert_ne!(longer.id, first.id);
    assert_eq!(longer.log.matches("found in the cache").count(), 7, "{}", longer.log);
    local.server.stop().await;
}

#[tokio::test]
async fn here_documents_are_scripts_input_and_files() {
    let directory = directory();
    let (local, base) = start(directory.path()).await;
    let steps = [
        "ARG WHO=goat",
        "RUN <<EOF",
        "# the shell sees this line",
        "echo \"script of $WHO\" > /script",
        "EOF",
        "RUN <<EOF",
        "#!/usr/bin/env python3",
        "import os; open('/python', 'w').write('python of ' + os.environ['WHO'])",
        "EOF",
        "RUN cat <<-ONE > /one && cat <<'TWO' > /two",
        "\t$WHO one",
        "\tONE",
        "$WHO two",
        "TWO",
        "COPY --chmod=755 <<run.sh <<'data.txt' /opt/",
        "#!/bin/sh",
        "echo \"I am $WHO and \\$0\"",
        "run.sh",
        "costs $5",
        "data.txt",
        "COPY <<-EOF /file",
        "\ttext",
        "EOF",
        "RUN grep -H . /script /python /one /two /opt/data.txt /file && /opt/run.sh && stat -c %a /file",
    ];
    let built = local.build(image_on(&base, &steps)).await.succeeded();
    let expected = "/script:script of goat\n/python:python of goat\n/one:goat one\n/two:$WHO two\n\
        /opt/data.txt:costs $5\n/file:text\nI am goat and /opt/run.sh\n644\n";
    assert!(built.log.contains(expected), "{}", built.log);
    let changed = steps.map(|line| if line == "costs $5" { "costs $6" } else { line });
    let changed = local.build(image_on(&base, &changed)).await.succeeded();
    assert!(changed.log.contains("/opt/data.txt:costs $6\n"), "{}", changed.log);
    local.server.stop().await;
}

#[tokio::test]
async fn layers_and_images_keep_nothing_of_the_machine_s_package_settings() {
    let directory = directory();
    let (local, base) = start(directory.path()).await;
    let steps = [
        "RUN env | grep -q ^APT_CONFIG=/run/modal-build/ && test -f $APT_CONFIG",
        "RUN touch /kept && pip --version && ls /run/modal-build",
        "RUN mkdir -p /run/own && touch /etc/own",
    ];
    let built = local.build(image_on(&base, &steps)).await.succeeded();
    // What a later step sees is what a sandbox sees, less the settings of that step itself.
    let found: Vec<String> = walkdir::WalkDir::new(directory.path().join("images/layers"))
        .into_iter()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| {
            path.contains("modal-build") || path.ends_with("/proc") || path.ends_with("/dev")
        })
        .filter(|path| !path.contains("/usr/"))
        .collect();
    assert!(found.is_empty(), "{found:?}");
    let records = std::fs::read(directory.path().join("records.sqlite")).unwrap();
    let wal = std::fs::read(directory.path().join("records.sqlite-wal")).unwrap_or_default();
    let text = String::from_utf8_lossy(&[records, wal].concat()).into_owned();
    assert!(text.contains(&built.id));
    for setting in ["PIP_CACHE_DIR", "NPM_CONFIG_CACHE", "ca-certificates.crt"] {
        assert!(!text.contains(setting), "`{setting}` is recorded");
    }
    local.server.stop().await;
}

#[tokio::test]
async fn files_come_from_earlier_stages() {
    let directory = directory();
    let (local, _) = start(directory.path()).await;
    let commands = [
        "ARG VERSION=3.11",
        "FROM python:${VERSION}-slim AS build",
        "RUN mkdir -p /out/deep && echo one > /out/deep/a && ln -s deep/a /out/link && echo gone > /out/b",
        "RUN rm /out/b",
        "FROM python:3.11-slim",
        "COPY --from=build /out /result",
        "COPY --from=0 /out/deep/a /single/",
        "RUN cat /result/deep/a /result/link /single/a && test ! -e /result/b && test -h /result/link",
        "ENTRYPOINT [\"/bin/echo\"]",
    ];
    local.build(image(&commands)).await.succeeded();
    local.server.stop().await;
}

#[tokio::test]
async fn a_failure_names_the_step_its_exit_code_and_its_last_words() {
    let directory = directory();
    let (local, base) = start(directory.path()).await;
    let commands = ["RUN echo fine", "RUN echo out; echo err >&2; sleep 300 & exit 3"];
    let definition = image_on(&base, &commands);
    let first = local.build(definition.clone()).await;
    let (id, reason) = (first.id.clone(), first.failed());
    let expected = "step `RUN echo out; echo err >&2; sleep 300 & exit 3` failed: it ended with \
                    exit code 3; its last output:\n  out\n  err";
    assert_eq!(reason, expected);

    let stored = local.join(&id, "", 5.0).await;
    assert_eq!(stored.last().unwrap().result.as_ref().unwrap().exception, expected);
    let again = local.build(definition).await;
    assert!(again.log.contains("found in the cache"), "built again: {}", again.log);
    local.server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_had_is_said_with_what_can() {
    let directory = directory();
    let local = Local::start(directory.path(), BasePolicy::Host).await;
    for (from, says) in [
        ("FROM python:2.0-slim", "there is Python 3.11 on Debian 12"),
        ("FROM ubuntu:24.04", "register a substitution for `ubuntu:24.04`"),
    ] {
        let reason = local.build(image(&[from])).await.failed();
        assert!(reason.contains(says), "{reason}");
    }
    let refused = local.get_or_create(request(image(&["FROM a", "FETCH b"]))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let unknown = local.get_or_create(request(image_on("im-0", &[]))).await.unwrap_err();
    assert_eq!(unknown.code(), Code::FailedPrecondition);
    assert!(unknown.message().starts_with("Could not find image with ID"));
    local.server.stop().await;
}

#[tokio::test]
async fn one_build_serves_everybody_who_asks_meanwhile() {
    let directory = directory();
    let (local, base) = start(directory.path()).await;
    let definition = image_on(&base, &["RUN date +%s%N > /when && cat /when"]);
    let builds = futures::future::join_all((0..8).map(|_| local.build(definition.clone()))).await;
    let id = builds[0].id.clone();
    assert!(builds.iter().all(|build| build.id == id));
    let layers = std::fs::read_dir(directory.path().join("images/layers")).unwrap().count();
    assert_eq!(layers, 2, "the base and one step");
    builds.into_iter().for_each(|build| drop(build.succeeded()));

    let mut forced = request(definition);
    forced.force_build = true;
    let forced = local.build_with(forced).await.succeeded();
    assert_ne!(forced.id, id, "a forced build is a new image");
    local.server.stop().await;
}

#[tokio::test]
async fn a_follower_resumes_where_it_was_cut_off_and_is_not_kept_beyond_its_time() {
    let directory = directory();
    let (local, base) = start(directory.path()).await;
    let definition = image_on(
        &base,
        &[
            "RUN echo started; while ! test -e /run/modal-build/scratch/go; do sleep 0.05; done; echo done",
        ],
    );
    let id = local.get_or_create(request(definition)).await.unwrap().image_id;
    let early = local.join(&id, "", 0.3).await;
    assert!(early.iter().all(|message| message.result.is_none()), "still building: {early:?}");
    let seen = early.last().map(|message| message.entry_id.clone()).unwrap_or_default();

    // Let the step go on: its scratch directory is the only one in the making.
    let scratch = directory.path().join("images/scratch");
    let found = walkdir::WalkDir::new(&scratch)
        .into_iter()
        .flatten()
        .find(|entry| entry.path().ends_with("settings/scratch"))
        .unwrap();
    std::fs::write(found.path().join("go"), "").unwrap();
    let late = local.join(&id, &seen, 55.0).await;
    let text: String = late.iter().flat_map(|it| &it.task_logs).map(|it| it.data.clone()).collect();
    assert!(text.contains("done\n") && !text.contains("step 1/2"), "{text}");
    let result = late.last().unwrap().result.as_ref().unwrap();
    assert_eq!(result.exception, "");
    local.server.stop().await;
}

#[tokio::test]
async fn long_chains_are_made_one_layer_and_deletions_stay() {
    let directory = directory();
    let (local, base) = start(directory.path()).await;
    let mut steps: Vec<String> = (0..24)
        .map(|n| format!("RUN mkdir -p /d && echo {n} > /d/{n} && rm -f /d/{}", n - 2))
        .collect();
    steps.push("RUN test \"$(ls /d | sort -n | tr '\\n' ' ')\" = '22 23 '".to_owned());
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let built = local.build(image_on(&base, &steps)).await.succeeded();
    assert!(built.log.contains("layers one"), "{}", built.log);
    local.server.stop().await;
}
