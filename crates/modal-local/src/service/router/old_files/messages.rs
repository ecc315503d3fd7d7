//! The messages of the file API that SDKs had before 1.6. Its second RPC is not in the descriptors of 1.6.4, from
//! which `modal-proto` is generated, so they are declared here: by the descriptors of the Python SDK 1.4.3.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExecRequest {
    #[prost(oneof = "Action", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14")]
    pub(super) action: Option<Action>,
    #[prost(string, tag = "10")]
    pub(super) task_id: String,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Action {
    #[prost(message, tag = "1")]
    Open(Open),
    #[prost(message, tag = "2")]
    Write(Write),
    #[prost(message, tag = "3")]
    Read(Read),
    #[prost(message, tag = "4")]
    Flush(Descriptor),
    #[prost(message, tag = "5")]
    ReadLine(Descriptor),
    #[prost(message, tag = "6")]
    Seek(Seek),
    /// `delete_bytes`, which the SDK has given up.
    #[prost(message, tag = "7")]
    DeleteBytes(Descriptor),
    /// `replace_bytes`, likewise.
    #[prost(message, tag = "8")]
    ReplaceBytes(Descriptor),
    #[prost(message, tag = "9")]
    Close(Descriptor),
    #[prost(message, tag = "11")]
    List(Path),
    #[prost(message, tag = "12")]
    MakeDirectory(PathAnd),
    #[prost(message, tag = "13")]
    Remove(PathAnd),
    #[prost(message, tag = "14")]
    Watch(PathAnd),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Open {
    #[prost(string, tag = "2")]
    pub(super) path: String,
    #[prost(string, tag = "3")]
    pub(super) mode: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Write {
    #[prost(string, tag = "1")]
    pub(super) file_descriptor: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Read {
    #[prost(string, tag = "1")]
    pub(super) file_descriptor: String,
    /// Without it, all that is left.
    #[prost(uint32, optional, tag = "2")]
    pub(super) n: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Seek {
    #[prost(string, tag = "1")]
    pub(super) file_descriptor: String,
    #[prost(int32, tag = "2")]
    pub(super) offset: i32,
    /// 0 from the start, 1 from here, 2 from the end.
    #[prost(int32, tag = "3")]
    pub(super) whence: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "1")]
    pub(super) file_descriptor: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Path {
    #[prost(string, tag = "1")]
    pub(super) path: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PathAnd {
    #[prost(string, tag = "1")]
    pub(super) path: String,
    /// Parents too, or what is inside too.
    #[prost(bool, tag = "2")]
    pub(super) all: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExecResponse {
    #[prost(string, tag = "1")]
    pub(super) exec_id: String,
    #[prost(string, optional, tag = "2")]
    pub(super) file_descriptor: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OutputRequest {
    #[prost(string, tag = "1")]
    pub(super) exec_id: String,
    #[prost(float, tag = "2")]
    pub(super) timeout: f32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OutputBatch {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) output: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "2")]
    pub(super) error: Option<SystemError>,
    #[prost(uint64, tag = "3")]
    pub(super) batch_index: u64,
    #[prost(bool, tag = "4")]
    pub(super) eof: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SystemError {
    /// An errno of Linux, of those that the SDK knows; 0 for any other.
    #[prost(int32, tag = "1")]
    pub(super) error_code: i32,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}
