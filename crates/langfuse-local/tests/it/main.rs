//! The server over a real PostgreSQL: what official SDKs sent and read, and what version 2 was seen to answer.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod access;
mod binary;
mod harness;
mod ingestion;
mod reads;
mod recorded;
mod sdk;
