//! Google's status of a gRPC call, which can say more than a code and a sentence.

/// `google.rpc.Status`, as `grpc-status-details-bin` carries it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RichStatus {
    /// The code of the call.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The sentence of the call.
    #[prost(string, tag = "2")]
    pub message: String,
    /// What else there is to say: messages of any kind, by their names.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}
