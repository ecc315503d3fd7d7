//! A collection of garbage takes nothing from what runs.

use modal_proto::client::*;
use modal_proto::task_command_router::TaskSnapshotFilesystemRequest;
use tonic::Code;

use crate::harness::{Live, Local};

async fn delete(local: &Local, image: &str) {
    let request = ImageDeleteRequest { image_id: image.to_owned() };
    local.client.clone().image_delete(request).await.unwrap();
}

async fn snapshot(sandbox: &Live, name: &str) -> String {
    let request = TaskSnapshotFilesystemRequest {
        task_id: sandbox.task.clone(),
        snapshot_id: name.to_owned(),
        ..Default::default()
    };
    sandbox.router.clone().task_snapshot_filesystem(request).await.unwrap().into_inner().image_id
}

fn with_image(local: &Local, image: &str) -> Sandbox {
    Sandbox { image_id: image.to_owned(), ..local.definition(&["sleep", "600"]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_image_stays_as_long_as_a_sandbox_runs_on_it() {
    let local = Local::start_apart().await;
    let before = local.names("images/layers");
    let commands =
        ["FROM debian:12-slim", "RUN mkdir /kept && seq 9 > /kept/seq", "RUN seq 3 > /b"];
    let image = local.build(&commands).await;
    let with_image_layers = local.names("images/layers");
    assert_eq!(with_image_layers.len(), before.len() + 2);
    let sandbox = local.create(with_image(&local, &image)).await;

    delete(&local, &image).await;
    let refused = local.try_create(local.request(with_image(&local, &image))).await.err().unwrap();
    assert_eq!(refused.code(), Code::NotFound, "it is not to be had any more");
    for _ in 0..2 {
        let collected = local.administer("POST", "/_local/gc", "").await;
        assert_eq!(collected["layers"], 0);
        assert_eq!(local.names("images/layers"), with_image_layers);
    }
    // Files that nothing has read before come from the layers as they are on the disk.
    let (code, output, _) = sandbox.sh("cat /kept/seq /b | wc -l; ls /usr/bin | head -1").await;
    assert_eq!((code, output.lines().next()), (0, Some("12")));

    // Its snapshot goes on the same layers, and keeps them.
    sandbox.sh("echo more > /more").await;
    let taken = snapshot(&sandbox, "one").await;
    sandbox.terminate().await;
    assert_eq!(local.administer("POST", "/_local/gc", "").await["layers"], 0);
    let again = local.create(with_image(&local, &taken)).await;
    assert_eq!(again.sh("cat /kept/seq /b /more | wc -l").await.1.trim(), "13");
    again.terminate().await;

    delete(&local, &taken).await;
    let collected = local.administer("POST", "/_local/gc", "").await;
    assert_eq!(collected["layers"], 3, "two of the image and one of the snapshot: {collected}");
    assert_eq!(local.names("images/layers"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_waits_for_its_turn_keeps_what_it_goes_on() {
    let local = Local::start_apart().await;
    let base = local.build(&["FROM debian:12-slim", "RUN seq 5 > /base"]).await;
    let request = ImageGetOrCreateRequest {
        image: Some(Image {
            dockerfile_commands: vec![
                "FROM base".to_owned(),
                "RUN sleep 1; seq 4 > /own".to_owned(),
            ],
            base_images: vec![BaseImage { docker_tag: "base".to_owned(), image_id: base.clone() }],
            ..Default::default()
        }),
        app_id: local.app.clone(),
        builder_version: "2025.06".to_owned(),
        ..Default::default()
    };
    let image = local.client.clone().image_get_or_create(request).await.unwrap().into_inner();
    delete(&local, &base).await;
    assert_eq!(local.administer("POST", "/_local/gc", "").await["layers"], 0);
    local.joined(&image.image_id).await;
    let sandbox = local.create(with_image(&local, &image.image_id)).await;
    assert_eq!(sandbox.sh("cat /base /own | wc -l").await.1.trim(), "9");
}
