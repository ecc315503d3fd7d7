//! Statuses that say more than a sentence: details in the form that Google's gRPC status has.

use modal_proto::RichStatus;
use prost::Message;
use tonic::{Code, Status};

/// A status with one detail, whose full name in the API is `name`.
pub(super) fn rich_status(code: Code, message: &str, name: &str, detail: &impl Message) -> Status {
    let detail = prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: detail.encode_to_vec(),
    };
    let rich = RichStatus { code: code as i32, message: message.to_owned(), details: vec![detail] };
    Status::with_details(code, message, rich.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_found_by_its_name() {
        let status = rich_status(
            Code::NotFound,
            "nothing",
            "modal.client.Detail",
            &prost_types::Duration::default(),
        );
        let read = RichStatus::decode(status.details()).unwrap();
        assert_eq!((read.code, read.message.as_str()), (5, "nothing"));
        assert_eq!(read.details[0].type_url, "type.googleapis.com/modal.client.Detail");
    }
}
