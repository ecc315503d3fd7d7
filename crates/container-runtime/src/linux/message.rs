//! What server, spawner and init say to each other.
//!
//! Small messages travel as seqpackets with descriptors beside them; what can be large (a container's plan, a
//! program's arguments and environment) travels in an unnamed memory file, so neither the socket's buffer nor any
//! process in between holds it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::wire::{Reader, Writer, malformed};
use crate::spec::{Exit, GeneratedFile, Mount, PtySize, Upper};

/// Server to spawner.
#[derive(Debug, PartialEq)]
pub(crate) enum ToSpawner {
    /// Fork an init. Beside it: init's socket and the plan's memory file.
    Create { token: u64, ids: Ids },
}

/// Spawner to server.
#[derive(Debug, PartialEq)]
pub(crate) enum FromSpawner {
    /// Init exists; beside it: its pidfd.
    Created { token: u64, pid: u32 },
    /// Init could not be forked.
    NotCreated { token: u64, stage: String, errno: i32 },
    /// Init has been reaped: nothing of the container runs any more.
    Gone { token: u64, how: Exit },
}

/// Which ids a container's users have outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// 0 to 65535 inside are this and the following outside; init stays outside that user namespace.
    Range(u32),
    /// Only root exists inside, and it is the caller.
    Caller,
}

impl Ids {
    /// What root inside is for init, which looks from where mounts are made.
    pub(crate) fn root(self) -> u32 {
        match self {
            Self::Range(base) => base,
            Self::Caller => 0,
        }
    }
}

/// All init needs to make the root; in a memory file.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) ids: Ids,
    pub(crate) hostname: String,
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) upper: Upper,
    pub(crate) durable: bool,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) files: Vec<GeneratedFile>,
    pub(crate) tun: bool,
    /// `cgroup.procs` files to write "0" to.
    pub(crate) join: Vec<PathBuf>,
    /// The control group below which each exec gets its own.
    pub(crate) exec_groups: Option<PathBuf>,
    /// An empty directory to build on.
    pub(crate) stage: PathBuf,
    /// For the back end without control groups.
    pub(crate) limit_memory: Option<u64>,
    pub(crate) limit_pids: Option<u64>,
    pub(crate) limit_file_size: Option<u64>,
    /// Bytes of `/dev/shm`.
    pub(crate) shm: u64,
}

/// Server to init.
#[derive(Debug, PartialEq)]
pub(crate) enum ToInit {
    /// Start a program: beside it the order's memory file, then the standard descriptors that are pipes.
    Exec { exec: u64, pipes: [bool; 3], pty: Option<PtySize>, echo: bool },
    /// Signal a program, all that descends from it too.
    Signal { request: u64, exec: u64, signal: i32 },
    /// A socket of the container's network, please: TCP, or UDP where it is `datagram`.
    Socket { request: u64, v6: bool, datagram: bool },
    /// End every program, write everything back, say so.
    Finish { request: u64 },
    /// Mount an overlay; beside it the changes and the layers as detached mounts.
    Attach { request: u64, target: PathBuf },
    /// Take such a mount away.
    Detach { request: u64, target: PathBuf },
}

/// A program to start; in a memory file that only the program's own process reads, since it holds secrets.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<OsString>,
    pub(crate) cwd: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Init to server.
#[derive(Debug, PartialEq)]
pub(crate) enum FromInit {
    /// The root is made; beside it the TUN device if asked for.
    Ready,
    /// A step failed; init is about to exit.
    SetupFailed { stage: String, errno: i32 },
    /// The program runs; beside it the terminal's master if asked for.
    Started { exec: u64 },
    /// The program does not run.
    ExecFailed { exec: u64, failure: ExecFailure, errno: i32, stage: String },
    /// A program ended.
    Exited { exec: u64, how: Exit },
    /// Done, or `errno`; beside it a socket if asked for.
    Answer { request: u64, errno: i32 },
}

/// Which part of starting a program failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecFailure {
    NotFound,
    NotExecutable,
    Workdir,
    Other,
}

impl ExecFailure {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::NotFound => 1,
            Self::NotExecutable => 2,
            Self::Workdir => 3,
            Self::Other => 4,
        }
    }

    pub(crate) fn from_code(code: u64) -> Self {
        match code {
            1 => Self::NotFound,
            2 => Self::NotExecutable,
            3 => Self::Workdir,
            _ => Self::Other,
        }
    }
}

fn put_ids(writer: Writer, ids: Ids) -> Writer {
    match ids {
        Ids::Range(base) => writer.optional(Some(base.into())),
        Ids::Caller => writer.optional(None),
    }
}

fn get_ids(reader: &mut Reader<'_>) -> io::Result<Ids> {
    Ok(match reader.optional()? {
        Some(base) => Ids::Range(u32::try_from(base).map_err(|_| malformed())?),
        None => Ids::Caller,
    })
}

fn put_exit(writer: Writer, how: Exit) -> Writer {
    let (is_code, number) = match how {
        Exit::Code(code) => (true, code),
        Exit::Signal(signal) => (false, signal),
    };
    put_i32(writer.bool(is_code), number)
}

fn get_exit(reader: &mut Reader<'_>) -> io::Result<Exit> {
    let is_code = reader.bool()?;
    let number = reader.i32()?;
    Ok(if is_code { Exit::Code(number) } else { Exit::Signal(number) })
}

fn put_i32(writer: Writer, value: i32) -> Writer {
    writer.u64(i64::from(value).cast_unsigned())
}

impl ToSpawner {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Create { token, ids } => put_ids(Writer::new(2).u64(*token), *ids).finish(),
        }
    }

    pub(crate) fn decode(message: &[u8]) -> io::Result<Self> {
        let (tag, mut reader) = Reader::new(message)?;
        match tag {
            2 => Ok(Self::Create { token: reader.u64()?, ids: get_ids(&mut reader)? }),
            _ => Err(malformed()),
        }
    }
}

impl FromSpawner {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Created { token, pid } => Writer::new(2).u64(*token).u64((*pid).into()).finish(),
            Self::NotCreated { token, stage, errno } => {
                put_i32(Writer::new(3).u64(*token).bytes(stage.as_bytes()), *errno).finish()
            }
            Self::Gone { token, how } => put_exit(Writer::new(4).u64(*token), *how).finish(),
        }
    }

    pub(crate) fn decode(message: &[u8]) -> io::Result<Self> {
        let (tag, mut reader) = Reader::new(message)?;
        let r = &mut reader;
        match tag {
            2 => Ok(Self::Created { token: r.u64()?, pid: r.u32()? }),
            3 => Ok(Self::NotCreated { token: r.u64()?, stage: r.text()?, errno: r.i32()? }),
            4 => Ok(Self::Gone { token: r.u64()?, how: get_exit(r)? }),
            _ => Err(malformed()),
        }
    }
}

impl ToInit {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Exec { exec, pipes, pty, echo } => {
                let size = pty.map(|size| u64::from(size.rows) << 16 | u64::from(size.cols));
                let writer = Writer::new(1).u64(*exec).optional(size).bool(*echo);
                writer.list(pipes.iter(), |w, pipe| w.bool(*pipe)).finish()
            }
            Self::Signal { request, exec, signal } => {
                put_i32(Writer::new(2).u64(*request).u64(*exec), *signal).finish()
            }
            Self::Socket { request, v6, datagram } => {
                Writer::new(3).u64(*request).bool(*v6).bool(*datagram).finish()
            }
            Self::Finish { request } => Writer::new(4).u64(*request).finish(),
            Self::Attach { request, target } => Writer::new(5).u64(*request).path(target).finish(),
            Self::Detach { request, target } => Writer::new(6).u64(*request).path(target).finish(),
        }
    }

    pub(crate) fn decode(message: &[u8]) -> io::Result<Self> {
        let (tag, mut reader) = Reader::new(message)?;
        let r = &mut reader;
        match tag {
            1 => {
                let exec = r.u64()?;
                let pty = r
                    .optional()?
                    .map(|size| PtySize { rows: (size >> 16) as u16, cols: size as u16 });
                let echo = r.bool()?;
                let pipes = r.list(Reader::bool)?.try_into().map_err(|_| malformed())?;
                Ok(Self::Exec { exec, pipes, pty, echo })
            }
            2 => Ok(Self::Signal { request: r.u64()?, exec: r.u64()?, signal: r.i32()? }),
            3 => {
                let (request, v6, datagram) = (r.u64()?, r.bool()?, r.bool()?);
                Ok(Self::Socket { request, v6, datagram })
            }
            4 => Ok(Self::Finish { request: r.u64()? }),
            5 => Ok(Self::Attach { request: r.u64()?, target: r.path()? }),
            6 => Ok(Self::Detach { request: r.u64()?, target: r.path()? }),
            _ => Err(malformed()),
        }
    }
}

impl FromInit {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ready => Writer::new(1).finish(),
            Self::SetupFailed { stage, errno } => {
                put_i32(Writer::new(2).bytes(stage.as_bytes()), *errno).finish()
            }
            Self::Started { exec } => Writer::new(3).u64(*exec).finish(),
            Self::ExecFailed { exec, failure, errno, stage } => {
                let writer = Writer::new(4).u64(*exec).u64(failure.code().into());
                put_i32(writer.bytes(stage.as_bytes()), *errno).finish()
            }
            Self::Exited { exec, how } => put_exit(Writer::new(5).u64(*exec), *how).finish(),
            Self::Answer { request, errno } => {
                put_i32(Writer::new(6).u64(*request), *errno).finish()
            }
        }
    }

    pub(crate) fn decode(message: &[u8]) -> io::Result<Self> {
        let (tag, mut reader) = Reader::new(message)?;
        let r = &mut reader;
        match tag {
            1 => Ok(Self::Ready),
            2 => Ok(Self::SetupFailed { stage: r.text()?, errno: r.i32()? }),
            3 => Ok(Self::Started { exec: r.u64()? }),
            4 => {
                let exec = r.u64()?;
                let failure = ExecFailure::from_code(r.u64()?);
                Ok(Self::ExecFailed { exec, failure, stage: r.text()?, errno: r.i32()? })
            }
            5 => Ok(Self::Exited { exec: r.u64()?, how: get_exit(r)? }),
            6 => Ok(Self::Answer { request: r.u64()?, errno: r.i32()? }),
            _ => Err(malformed()),
        }
    }
}

impl Plan {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let writer = put_ids(Writer::new(1), self.ids)
            .bytes(self.hostname.as_bytes())
            .list(self.layers.iter(), |w, layer| w.path(layer));
        let writer = match &self.upper {
            Upper::Tmpfs { bytes, inodes } => writer.bool(true).u64(*bytes).u64(*inodes),
            Upper::Dir { upper, work } => writer.bool(false).path(upper).path(work),
        };
        writer
            .bool(self.durable)
            .list(self.mounts.iter(), |w, mount| {
                let w = w.path(&mount.source).path(&mount.sub_path);
                w.path(&mount.target).bool(mount.read_only)
            })
            .list(self.files.iter(), |w, file| {
                w.path(&file.path).bytes(&file.contents).u64(file.mode.into())
            })
            .bool(self.tun)
            .list(self.join.iter(), |w, path| w.path(path))
            .list(self.exec_groups.iter(), |w, path| w.path(path))
            .path(&self.stage)
            .optional(self.limit_memory)
            .optional(self.limit_pids)
            .optional(self.limit_file_size)
            .u64(self.shm)
            .finish()
    }

    pub(crate) fn decode(message: &[u8]) -> io::Result<Self> {
        let (_, mut reader) = Reader::new(message)?;
        let r = &mut reader;
        Ok(Self {
            ids: get_ids(r)?,
            hostname: r.text()?,
            layers: r.list(Reader::path)?,
            upper: if r.bool()? {
                Upper::Tmpfs { bytes: r.u64()?, inodes: r.u64()? }
            } else {
                Upper::Dir { upper: r.path()?, work: r.path()? }
            },
            durable: r.bool()?,
            mounts: r.list(|r| {
                Ok(Mount {
                    source: r.path()?,
                    sub_path: r.path()?,
                    target: r.path()?,
                    read_only: r.bool()?,
                })
            })?,
            files: r.list(|r| {
                Ok(GeneratedFile { path: r.path()?, contents: r.bytes()?, mode: r.u32()? })
            })?,
            tun: r.bool()?,
            join: r.list(Reader::path)?,
            exec_groups: r.list(Reader::path)?.pop(),
            stage: r.path()?,
            limit_memory: r.optional()?,
            limit_pids: r.optional()?,
            limit_file_size: r.optional()?,
            shm: r.u64()?,
        })
    }
}

impl Order {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Writer::new(1)
            .list(self.argv.iter(), |w, word| w.bytes(word.as_bytes()))
            .list(self.env.iter(), |w, pair| w.bytes(pair.as_bytes()))
            .path(&self.cwd)
            .u64(self.uid.into())
            .u64(self.gid.into())
            .finish()
    }

    pub(crate) fn decode(message: &[u8]) -> io::Result<Self> {
        let (_, mut reader) = Reader::new(message)?;
        let r = &mut reader;
        Ok(Self {
            argv: r.list(Reader::os)?,
            env: r.list(Reader::os)?,
            cwd: r.path()?,
            uid: r.u32()?,
            gid: r.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_trip() {
        let create = ToSpawner::Create { token: 5, ids: Ids::Range(1_000_000_000) };
        assert_eq!(ToSpawner::decode(&create.encode()).unwrap(), create);
        let gone = FromSpawner::Gone { token: 1, how: Exit::Signal(9) };
        assert_eq!(FromSpawner::decode(&gone.encode()).unwrap(), gone);
        let pty = Some(PtySize { rows: 24, cols: 80 });
        let exec = ToInit::Exec { exec: 3, pipes: [true, false, true], pty, echo: true };
        assert_eq!(ToInit::decode(&exec.encode()).unwrap(), exec);
        let attach = ToInit::Attach { request: 7, target: "/mnt/x".into() };
        assert_eq!(ToInit::decode(&attach.encode()).unwrap(), attach);
        let failed = FromInit::ExecFailed {
            exec: 3,
            failure: ExecFailure::Workdir,
            errno: 2,
            stage: "cd".to_owned(),
        };
        assert_eq!(FromInit::decode(&failed.encode()).unwrap(), failed);
        let code = FromInit::Exited { exec: 1, how: Exit::Code(-1) };
        assert_eq!(FromInit::decode(&code.encode()).unwrap(), code);
    }

    #[test]
    fn plans_and_orders_survive_the_trip() {
        let plan = Plan {
            ids: Ids::Caller,
            hostname: "h".to_owned(),
            layers: vec!["/a".into(), "/b".into()],
            upper: Upper::Dir { upper: "/u".into(), work: "/w".into() },
            durable: true,
            mounts: vec![Mount {
                sub_path: "a/b".into(),
                read_only: true,
                ..Mount::new("/s", "/t")
            }],
            files: vec![GeneratedFile { path: "/f".into(), contents: vec![0, 1], mode: 0o600 }],
            tun: true,
            join: vec!["/j".into()],
            exec_groups: Some("/g".into()),
            stage: "/stage".into(),
            limit_memory: Some(1),
            limit_pids: None,
            limit_file_size: Some(2),
            shm: 9,
        };
        let back = Plan::decode(&plan.encode()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{plan:?}"));
        let order = Order {
            argv: vec!["a".into()],
            env: vec!["A=b".into()],
            cwd: "/".into(),
            uid: 1,
            gid: 2,
        };
        let back = Order::decode(&order.encode()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{order:?}"));
    }
}
