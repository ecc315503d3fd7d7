//! The server's own wish: an `RPCRetryPolicy` in the details of a status says when to come back.

use std::time::Duration;

use modal_proto::{RichStatus, client::RpcRetryPolicy};
use prost::Message as _;

/// The shortest wait that is obeyed.
const SHORTEST: Duration = Duration::from_millis(100);

/// How long the server asks to wait before the next attempt, where it says so.
pub(crate) fn retry_after(status: &tonic::Status) -> Option<Duration> {
    let details = RichStatus::decode(status.details()).ok()?.details;
    let policy =
        details.iter().find(|any| any.type_url.ends_with("/modal.client.RPCRetryPolicy"))?;
    let seconds = RpcRetryPolicy::decode(policy.value.as_slice()).ok()?.retry_after_secs;
    let wait = Duration::try_from_secs_f32(seconds).ok()?;
    Some(wait.max(SHORTEST))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A status that asks to wait `seconds`.
    pub(crate) fn status(code: tonic::Code, seconds: f32) -> tonic::Status {
        let policy = RpcRetryPolicy { retry_after_secs: seconds }.encode_to_vec();
        let any = prost_types::Any {
            type_url: "type.modal.com/modal.client.RPCRetryPolicy".to_owned(),
            value: policy,
        };
        let rich =
            RichStatus { code: code as i32, message: "slow down".to_owned(), details: vec![any] };
        tonic::Status::with_details(code, "slow down", rich.encode_to_vec().into())
    }

    #[test]
    fn the_wait_is_read_from_the_details_and_never_shorter_than_a_tenth() {
        assert_eq!(
            retry_after(&status(tonic::Code::Unavailable, 2.5)),
            Some(Duration::from_millis(2500))
        );
        assert_eq!(retry_after(&status(tonic::Code::Unavailable, 0.0)), Some(SHORTEST));
        assert_eq!(retry_after(&status(tonic::Code::Unavailable, f32::NAN)), None);
        assert_eq!(retry_after(&tonic::Status::unavailable("")), None);
    }

    #[test]
    fn details_that_are_not_a_status_are_no_wish() {
        let garbage =
            tonic::Status::with_details(tonic::Code::Internal, "", vec![0xff, 0x01].into());
        assert_eq!(retry_after(&garbage), None);
    }
}
