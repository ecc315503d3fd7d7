//! Calling a generator: what it yields comes as it is made, and its answer says only how much that was.

use std::{marker::PhantomData, time::Duration};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _},
};
use modal_proto::client as api;
use prost::Message as _;
use serde::{Serialize, de::DeserializeOwned};
use tonic::Status;

use super::{Function, FunctionCall, INLINE};
use crate::{
    blob, cbor,
    error::{Error, Result},
    retry::{self, RetryPolicy},
    rpc::{methods, status},
};

/// How often a stream that broke is opened again, without an item in between.
/// Source: `_stream_function_call_data` of the Python SDK 1.6.4.
const RESUME: RetryPolicy =
    RetryPolicy { retries: 10, first: Duration::from_millis(10), cap: Duration::from_secs(1) };

type Chunks = BoxStream<'static, Result<api::DataChunk, Status>>;

/// A generator that runs.
struct Generating<T> {
    call: FunctionCall,
    chunks: Option<Chunks>,
    /// The index of the last item that came; they count from 1.
    last: u64,
    breaks: u32,
    received: u64,
    /// How many there are, once the generator has ended.
    total: Option<u64>,
    answer: BoxFuture<'static, Result<u64>>,
    items: PhantomData<fn() -> T>,
}

impl Function {
    /// Calls a generator: a stream of what it yields, as it comes.
    ///
    /// `arguments` as for [`call`](Self::call). Dropping the stream does not end the generator.
    ///
    /// ```no_run
    /// # async fn run(client: modal_client::Client) -> modal_client::Result<()> {
    /// use futures::StreamExt as _;
    ///
    /// let count = client.function("demo", "count").await?;
    /// let mut numbers = count.generate::<i64>((3,)).await?;
    /// while let Some(number) = numbers.next().await {
    ///     println!("{}", number?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is no generator. The stream ends after its first error, [`Error::FunctionFailed`] if
    /// the generator raised an exception, which may come before the last items.
    pub async fn generate<T: DeserializeOwned + Send + 'static>(
        &self,
        arguments: impl Serialize,
    ) -> Result<BoxStream<'static, Result<T>>> {
        if !self.is_generator() {
            let problem = "it is no generator: use `call`";
            return Err(Error::invalid(self.operation("call"), problem));
        }
        let kind = api::FunctionCallInvocationType::SyncLegacy;
        let call = self.begin(&arguments, kind, INLINE).await?;
        let answered = call.clone();
        let generating = Generating {
            call,
            chunks: None,
            last: 0,
            breaks: 0,
            received: 0,
            total: None,
            answer: async move { answered.items_total().await }.boxed(),
            items: PhantomData,
        };
        let items = stream::try_unfold(generating, |mut generating: Generating<T>| async move {
            let item = generating.next().await?;
            Ok(item.map(|item| (item, generating)))
        });
        Ok(items.boxed())
    }

    pub(super) fn is_generator(&self) -> bool {
        self.metadata.function_type() == api::function::FunctionType::Generator
    }
}

impl<T: DeserializeOwned> Generating<T> {
    async fn next(&mut self) -> Result<Option<T>> {
        while self.total.is_none_or(|total| self.received < total) {
            let opened = match self.chunks.take() {
                Some(chunks) => Ok(chunks),
                None => self.call.chunks(self.last).await,
            };
            let mut chunks = match opened {
                Ok(chunks) => chunks,
                Err(status) => {
                    self.pause(status).await?;
                    continue;
                }
            };
            let came = tokio::select! {
                biased;
                came = chunks.next() => came,
                total = &mut self.answer, if self.total.is_none() => {
                    self.total = Some(total?);
                    self.chunks = Some(chunks);
                    continue;
                }
            };
            match came {
                // The server ends each question after a while; the next one goes on behind it.
                None => {}
                Some(Err(status)) => self.pause(status).await?,
                Some(Ok(chunk)) => {
                    self.chunks = Some(chunks);
                    self.breaks = 0;
                    if chunk.index > self.last {
                        self.last = chunk.index;
                        self.received += 1;
                        return self.call.item(chunk).await.map(Some);
                    }
                }
            }
        }
        Ok(None)
    }

    async fn pause(&mut self, status: Status) -> Result<()> {
        if !retry::is_transient(status.code()) || self.breaks >= RESUME.retries {
            let rpc = methods::FUNCTION_CALL_GET_DATA_OUT.name;
            let operation = self.call.operation("read what is yielded by");
            return Err(status::into_error(operation, rpc, &status, self.breaks + 1, None));
        }
        tokio::time::sleep(RESUME.jittered(self.breaks)).await;
        self.breaks += 1;
        Ok(())
    }
}

impl FunctionCall {
    async fn chunks(&self, last_index: u64) -> Result<Chunks, Status> {
        use api::function_call_get_data_request::CallInfo;
        let query = api::FunctionCallGetDataRequest {
            call_info: Some(CallInfo::FunctionCallId(self.id.to_string())),
            last_index,
        };
        let method = &methods::FUNCTION_CALL_GET_DATA_OUT;
        let (wire, metadata) = (&self.client.shared.wire, self.client.metadata());
        Ok(wire.stream(method, query, metadata, None).await?.boxed())
    }

    async fn item<T: DeserializeOwned>(&self, chunk: api::DataChunk) -> Result<T> {
        use api::data_chunk::DataOneof;
        let format = chunk.data_format();
        let bytes: Bytes = match chunk.data_oneof {
            Some(DataOneof::Data(bytes)) => bytes.into(),
            Some(DataOneof::DataBlobId(id)) => blob::download(&self.client, &id).await?,
            None => Bytes::new(),
        };
        self.decode(format, &bytes)
    }

    /// How many items there were, once it has ended.
    async fn items_total(&self) -> Result<u64> {
        let output = self.single_output(None).await?;
        let format = output.data_format();
        let bytes = self.answer_bytes(output).await?;
        if format != api::DataFormat::GeneratorDone {
            return Err(self.wrong_form(format));
        }
        let done = api::GeneratorDone::decode(bytes)
            .map_err(|error| Error::protocol(self.operation("call"), error.to_string()))?;
        Ok(done.items_total)
    }

    /// A value as the caller wants it.
    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        format: api::DataFormat,
        bytes: &[u8],
    ) -> Result<T> {
        if format != api::DataFormat::Cbor {
            return Err(self.wrong_form(format));
        }
        cbor::decode(bytes).map_err(|problem| Error::protocol(self.operation("call"), problem))
    }

    fn wrong_form(&self, format: api::DataFormat) -> Error {
        let problem = format!("it answered in the form {}, not in CBOR", format.as_str_name());
        Error::protocol(self.operation("call"), problem)
    }
}
