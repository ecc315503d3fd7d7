//! Queues: in order, each item once, nothing lost to a client that went away.

use std::time::Duration;

use modal_proto::client::{
    ObjectCreationType, QueueClearRequest, QueueDeleteRequest, QueueGetOrCreateRequest,
    QueueGetRequest, QueueLenRequest, QueueListRequest, QueueNextItemsRequest, QueuePutRequest,
};
use tonic::Code;

use crate::harness::{Client, TestServer};

async fn create(client: &mut Client, name: &str) -> String {
    let request = QueueGetOrCreateRequest {
        deployment_name: name.to_owned(),
        object_creation_type: ObjectCreationType::CreateIfMissing as i32,
        ..Default::default()
    };
    client.queue_get_or_create(request).await.unwrap().into_inner().queue_id
}

fn put(queue_id: &str, partition: &str, values: &[&str]) -> QueuePutRequest {
    QueuePutRequest {
        queue_id: queue_id.to_owned(),
        values: values.iter().map(|it| it.as_bytes().to_vec()).collect(),
        partition_key: partition.into(),
        partition_ttl_seconds: 60,
    }
}

fn get(queue_id: &str, partition: &str, n_values: i32, timeout: f32) -> QueueGetRequest {
    QueueGetRequest {
        queue_id: queue_id.to_owned(),
        timeout,
        n_values,
        partition_key: partition.into(),
    }
}

async fn taken(client: &mut Client, request: QueueGetRequest) -> Vec<String> {
    let values = client.queue_get(request).await.unwrap().into_inner().values;
    values.into_iter().map(|it| String::from_utf8(it).unwrap()).collect()
}

#[tokio::test]
async fn partitions_are_queues_of_their_own_and_survive_a_restart() {
    let mut server = TestServer::start().await;
    let mut client = server.client().await;
    let id = create(&mut client, "q").await;
    client.queue_put(put(&id, "", &["1", "2", "3"])).await.unwrap();
    client.queue_put(put(&id, "other", &["x"])).await.unwrap();
    server.restart().await;
    let mut client = server.client().await;
    let len = |partition: &str, total| QueueLenRequest {
        queue_id: id.clone(),
        partition_key: partition.into(),
        total,
    };
    assert_eq!(client.queue_len(len("", false)).await.unwrap().into_inner().len, 3);
    assert_eq!(client.queue_len(len("", true)).await.unwrap().into_inner().len, 4);
    let list = client.queue_list(QueueListRequest::default()).await.unwrap().into_inner();
    assert_eq!((list.queues[0].num_partitions, list.queues[0].total_size), (2, 4));
    assert_eq!(taken(&mut client, get(&id, "", 2, 0.0)).await, ["1", "2"]);
    assert_eq!(taken(&mut client, get(&id, "other", 5, 0.0)).await, ["x"]);
    client
        .queue_clear(QueueClearRequest {
            queue_id: id.clone(),
            all_partitions: true,
            ..Default::default()
        })
        .await
        .unwrap();
    assert!(taken(&mut client, get(&id, "", 1, 0.0)).await.is_empty());
}

#[tokio::test]
async fn a_waiting_get_is_answered_by_the_put() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let id = create(&mut client, "q").await;
    let waiting = tokio::spawn({
        let (mut client, request) = (client.clone(), get(&id, "", 1, 50.0));
        async move { taken(&mut client, request).await }
    });
    let iterating = tokio::spawn({
        let mut client = client.clone();
        let request = QueueNextItemsRequest {
            queue_id: id.clone(),
            partition_key: "seen".into(),
            item_poll_timeout: 50.0,
            ..Default::default()
        };
        async move { client.queue_next_items(request).await.unwrap().into_inner().items }
    });
    tokio::task::yield_now().await;
    client.queue_put(put(&id, "", &["late"])).await.unwrap();
    client.queue_put(put(&id, "seen", &["look"])).await.unwrap();
    assert_eq!(waiting.await.unwrap(), ["late"]);
    assert_eq!(iterating.await.unwrap()[0].value, b"look");
    let short =
        tokio::time::timeout(Duration::from_secs(10), taken(&mut client, get(&id, "", 1, 0.05)));
    assert!(short.await.unwrap().is_empty());
}

#[tokio::test]
async fn iteration_resumes_where_it_was_and_removes_nothing() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let id = create(&mut client, "q").await;
    let values: Vec<String> = (0..250).map(|it| it.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    client.queue_put(put(&id, "", &values)).await.unwrap();
    let (mut seen, mut last_entry_id) = (Vec::new(), String::new());
    loop {
        let request = QueueNextItemsRequest {
            queue_id: id.clone(),
            last_entry_id: last_entry_id.clone(),
            ..Default::default()
        };
        let items = client.queue_next_items(request).await.unwrap().into_inner().items;
        let Some(last) = items.last() else { break };
        last_entry_id.clone_from(&last.entry_id);
        seen.extend(items.into_iter().map(|it| String::from_utf8(it.value).unwrap()));
    }
    assert_eq!(seen, values);
    assert_eq!(taken(&mut client, get(&id, "", 250, 0.0)).await, values);
}

#[tokio::test]
async fn a_full_partition_is_said_to_be_full_and_a_large_item_is_refused() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let id = create(&mut client, "q").await;
    client.queue_put(put(&id, "", &["x"; 5_000])).await.unwrap();
    let status = client.queue_put(put(&id, "", &["y"])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    client.queue_put(put(&id, "roomy", &["y"])).await.unwrap();
    let large = "z".repeat((1 << 20) + 1);
    let status = client.queue_put(put(&id, "", &[&large])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("status = '413'"), "{status:?}");
    let long = "p".repeat(65);
    let status = client.queue_put(put(&id, &long, &["y"])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    client.queue_delete(QueueDeleteRequest { queue_id: id.clone() }).await.unwrap();
    let status = client.queue_put(put(&id, "", &["y"])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_partition_ends_after_its_time() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let id = create(&mut client, "q").await;
    let brief = QueuePutRequest { partition_ttl_seconds: 1, ..put(&id, "", &["old"]) };
    client.queue_put(brief).await.unwrap();
    // A wait for a put that never comes ends when the partition's second is over at the latest.
    let len = QueueLenRequest { queue_id: id.clone(), ..Default::default() };
    let emptied = async {
        while client.queue_len(len.clone()).await.unwrap().into_inner().len > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), emptied).await.unwrap();
    client.queue_put(put(&id, "", &["new"])).await.unwrap();
    assert_eq!(taken(&mut client, get(&id, "", 9, 0.0)).await, ["new"]);
}
