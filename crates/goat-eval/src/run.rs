//! A run from its arguments to its exit code.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    agent::{Ending, Limits, Parts, Session, Tally},
    cli::{self, Arguments, Command, FlagError},
    error::{Error, Result, one_line},
    exit_code,
    hardening::{self, Environment},
    mcp::{
        self, News, Servers,
        config::{ServerConfig, Variables},
    },
    model::{ModelClient, profile::Profile},
    progress::Progress,
    prompt::SystemPrompt,
    prompts::Prompts,
    secret::Redactor,
    settings::{self, Endpoint},
    skills::{SkillTool, Skills},
    summary::{Outcome, SCHEMA, Summary},
    tool::{Registry, Workspace, bash::Processes, read::pdf},
    transcript::{Event, Transcript},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Does what the arguments ask for and returns the exit code, one of [`exit_code`].
///
/// `environment` is what [`hardening::take_environment`] left: the keys must be out of the process by now.
pub fn run(arguments: Vec<OsString>, environment: Environment) -> u8 {
    if arguments.first().is_some_and(|it| it == pdf::HELPER) {
        return pdf::help(&arguments[1..]);
    }
    let redactor = redactor(&environment);
    let progress = Progress::new(redactor.clone());
    match cli::parse(arguments) {
        Ok(Command::Help) => print(&progress, cli::HELP),
        Ok(Command::Version) => print(&progress, &format!("goat-eval {VERSION}\n")),
        Ok(Command::Run(arguments)) => Run::new(arguments, environment, redactor).finish(),
        Err(error) => bad_flag(&progress, &error),
    }
}

fn bad_flag(progress: &Progress, error: &FlagError) -> u8 {
    progress.full_line(&error.to_string());
    exit_code::BAD_FLAG
}

fn print(progress: &Progress, text: &str) -> u8 {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => exit_code::ANSWERED,
        Err(error) => {
            progress.full_line(&format!("cannot write to stdout: {error}"));
            exit_code::USAGE
        }
    }
}

/// Masks the keys of the environment. The default key is a word of this program, not a secret.
fn redactor(environment: &Environment) -> Redactor {
    Redactor::new(environment.secrets.iter().map(|(_, secret)| secret.clone()))
}

/// How the work on a prompt ended.
enum End {
    Work(Ending),
    Failed(Error),
    TimedOut(Duration),
    Signal(&'static str, u8),
}

impl End {
    fn exit_code(&self) -> u8 {
        match self {
            End::Work(Ending::Answered) => exit_code::ANSWERED,
            End::Work(Ending::TurnsUsedUp) => exit_code::TURNS_USED_UP,
            End::Work(Ending::TokensUsedUp) => exit_code::TOKENS_USED_UP,
            End::Work(Ending::CostUsedUp) => exit_code::COST_USED_UP,
            End::Failed(error) => error.exit_code(),
            End::TimedOut(_) => exit_code::TIMED_OUT,
            End::Signal(_, code) => *code,
        }
    }

    fn error(&self, tally: Tally) -> Option<String> {
        match self {
            End::Work(Ending::Answered) => None,
            End::Work(Ending::TurnsUsedUp) => {
                Some(format!("no answer within {} turns", tally.turns))
            }
            End::Work(Ending::TokensUsedUp) => {
                Some(format!("no answer within the tokens allowed; {} used", tally.usage.total()))
            }
            End::Work(Ending::CostUsedUp) => Some("no answer within the cost allowed".to_owned()),
            End::Failed(error) => Some(one_line(error)),
            End::TimedOut(limit) => {
                Some(format!("no answer within {} seconds", limit.as_secs_f64()))
            }
            End::Signal(name, _) => Some(format!("ended by {name}")),
        }
    }
}

/// What a conversation begins with, as far as it is files and flags.
struct Start {
    prompts: Prompts,
    system_prompt: SystemPrompt,
    skills: Option<Arc<Skills>>,
    servers: Option<Vec<ServerConfig>>,
}

/// A run that has its arguments.
struct Run {
    arguments: Arguments,
    endpoint: Endpoint,
    profile: Profile,
    limits: Limits,
    /// What is wrong with the settings of the model; told when the files of the run exist.
    wrong: Option<Error>,
    /// What `${NAME}` in the MCP config may stand for.
    variables: Variables,
    processes: Arc<Processes>,
    redactor: Redactor,
    progress: Progress,
    start: Instant,
}

impl Run {
    fn new(arguments: Arguments, environment: Environment, redactor: Redactor) -> Self {
        let start = Instant::now();
        let endpoint = Endpoint::new(&arguments, &environment);
        let (profile, price, wrong) =
            match settings::model(&endpoint.model, &arguments, &environment) {
                Ok((profile, price)) => (profile, price, None),
                Err(error) => (Profile::of(&endpoint.model), None, Some(error)),
            };
        let (max_tokens, max_cost) = (arguments.max_tokens, arguments.max_cost);
        let limits = Limits { max_tokens, max_cost, price };
        let variables = Variables::allowed(&arguments.mcp_env, &environment);
        let redactor = redactor.with(variables.secrets());
        let progress = Progress::new(redactor.clone());
        let processes = Arc::new(Processes::new(environment.public));
        Run {
            arguments,
            endpoint,
            profile,
            limits,
            wrong,
            variables,
            processes,
            redactor,
            progress,
            start,
        }
    }

    /// Works, ends whatever still runs, completes the files, prints the answer.
    fn finish(mut self) -> u8 {
        let (end, tally, answer, transcript) = match self.prepare() {
            Ok((start, workspace, transcript)) => {
                let (end, tally, answer) = self.work(start, &workspace, &transcript);
                (end, tally, answer, transcript)
            }
            Err(error) => {
                (End::Failed(error), Tally::default(), String::new(), Transcript::default())
            }
        };
        self.processes.stop_all();
        let mut summary = self.summary(&end, tally);
        if !answer.is_empty() && print(&self.progress, &answer) != exit_code::ANSWERED {
            summary.exit_code = exit_code::USAGE;
            summary.outcome = Outcome::of_exit_code(summary.exit_code);
            summary.error = Some("the answer could not be written to stdout".into());
        }
        self.record(summary, &transcript)
    }

    /// Everything that can be wrong before the model is asked. Relative files count from where the agent was started.
    fn prepare(&mut self) -> Result<(Start, Workspace, Transcript)> {
        let arguments = &mut self.arguments;
        let paths = [
            &mut arguments.transcript,
            &mut arguments.summary,
            &mut arguments.system_prompt,
            &mut arguments.skills_dir,
            &mut arguments.mcp_config,
        ];
        for path in paths.into_iter().flatten() {
            *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
        }
        let servers = self.servers()?;
        let path = self.arguments.transcript.clone();
        let transcript = Transcript::create(path.as_deref(), self.redactor.clone());
        let transcript = transcript.map_err(|source| output_error("transcript", path, source))?;
        if let Some(error) = self.wrong.take() {
            return Err(error);
        }
        let start = Start {
            prompts: Prompts::of(&self.arguments)?,
            system_prompt: self.system_prompt()?,
            skills: self.skills()?,
            servers,
        };
        let workspace = enter(self.arguments.cwd.clone())?;
        Ok((start, workspace, transcript))
    }

    fn system_prompt(&self) -> Result<SystemPrompt> {
        let Some(path) = &self.arguments.system_prompt else {
            return Ok(self.profile.system_prompt());
        };
        SystemPrompt::read(path).map_err(|source| input_error("system prompt", path, source))
    }

    /// The servers of the MCP config. What is secret in it is masked from here on.
    fn servers(&mut self) -> Result<Option<Vec<ServerConfig>>> {
        let Some(path) = self.arguments.mcp_config.clone() else { return Ok(None) };
        let text = std::fs::read_to_string(&path)
            .map_err(|source| input_error("MCP config", &path, source))?;
        let servers = mcp::config::parse(&text, &self.variables)
            .map_err(|source| Error::McpConfig { path, source })?;
        self.redactor = self.redactor.with(servers.iter().flat_map(ServerConfig::secrets));
        self.progress = Progress::new(self.redactor.clone());
        Ok(Some(servers))
    }

    fn skills(&self) -> Result<Option<Arc<Skills>>> {
        let Some(path) = &self.arguments.skills_dir else { return Ok(None) };
        let skills = Skills::load(path)
            .map_err(|source| input_error("directory of skills", path, source))?;
        Ok(Some(Arc::new(skills)))
    }

    fn work(
        &self,
        start: Start,
        workspace: &Workspace,
        transcript: &Transcript,
    ) -> (End, Tally, String) {
        let failed = |error| (End::Failed(error), Tally::default(), String::new());
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return failed(Error::Setup(error)),
        };
        hardening::adopt_orphans();
        let result = runtime.block_on(self.converse(start, workspace, transcript));
        // A search that is still busy on its thread is not waited for.
        runtime.shutdown_background();
        result.unwrap_or_else(failed)
    }

    async fn converse(
        &self,
        start: Start,
        workspace: &Workspace,
        transcript: &Transcript,
    ) -> Result<(End, Tally, String)> {
        let mut signals = Signals::new().map_err(Error::Setup)?;
        let Start { mut prompts, system_prompt, skills, servers } = start;
        let trace = &self.arguments.trace;
        let model = ModelClient::new(&self.endpoint, trace, self.redactor.clone())?;
        let mut tools = Registry::standard(workspace, &self.processes);
        let skills = skills.map(|skills| self.offer(skills, &mut tools));
        let connecting = self.connect(servers, &mut tools);
        let reached = match self.until_stopped(&mut signals, connecting).await {
            Ok(reached) => reached,
            Err(end) => return Ok((end, Tally::default(), String::new())),
        };
        self.note(transcript, self.start_event(&model, &tools, workspace, &system_prompt));
        if let Some(skills) = &skills {
            self.note_skills(transcript, skills);
        }
        let (mcp, news) = reached.unzip();
        for news in news.into_iter().flatten() {
            self.note(transcript, Event::Mcp { turn: 0, news });
        }
        let mut instructions = system_prompt.render(&workspace.cwd.display().to_string());
        instructions.push_str(&mcp.as_ref().map(Servers::instructions).unwrap_or_default());
        let parts = Parts {
            model: &model,
            profile: &self.profile,
            tools: &tools,
            skills: skills.as_deref(),
            mcp: mcp.as_ref(),
            trace,
            limits: self.limits,
            transcript,
            progress: &self.progress,
        };
        let mut session = Session::new(parts, instructions);
        let work = self.work_on(&mut session, &mut prompts);
        let end = self.until_stopped(&mut signals, work).await.map_or_else(|end| end, End::Work);
        if let Some(mcp) = &mcp {
            mcp.close().await;
        }
        // Only an answer, or what there is when turns or time are over; nothing after a signal or an error.
        let has_answer = matches!(end, End::Work(_) | End::TimedOut(_));
        let mut answer = if has_answer { session.take_answer() } else { String::new() };
        if prompts.are_many() && !answer.is_empty() {
            answer.push('\n');
        }
        Ok((end, session.tally(), self.redactor.clean(&answer)))
    }

    /// Does something, unless a signal or the end of the run's time comes first.
    async fn until_stopped<T>(
        &self,
        signals: &mut Signals,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T, End> {
        let limit = self.arguments.timeout;
        let work = pin!(work);
        tokio::select! {
            biased;
            (name, code) = signals.received() => Err(End::Signal(name, code)),
            limit = elapsed(limit, self.start) => Err(End::TimedOut(limit)),
            result = work => result.map_err(End::Failed),
        }
    }

    /// Starts or reaches the MCP servers, and says which.
    async fn connect(
        &self,
        servers: Option<Vec<ServerConfig>>,
        tools: &mut Registry,
    ) -> Result<Option<(Servers, Vec<News>)>> {
        let Some(configs) = servers else { return Ok(None) };
        let (servers, news) =
            Servers::connect(&configs, &self.processes, &self.redactor, tools).await;
        for news in &news {
            self.progress.full_line(&news.to_string());
        }
        Ok(Some((servers, news)))
    }

    /// Puts the prompts one after the other. Where there may be many, each answer is printed as soon as it is there.
    async fn work_on(&self, session: &mut Session<'_>, prompts: &mut Prompts) -> Result<Ending> {
        let (mut number, mut last) = (0, None);
        while let Some(prompt) = prompts.next().await? {
            number += 1;
            let ending = session.work(&prompt, self.arguments.max_turns).await?;
            last = Some(ending);
            if prompts.are_many() {
                self.answer(session, number)?;
            }
            if !matches!(ending, Ending::Answered | Ending::TurnsUsedUp) {
                break;
            }
        }
        last.ok_or(Error::NoPrompt)
    }

    /// Prints the answer to one of several prompts, and what it cost.
    fn answer(&self, session: &mut Session<'_>, number: u32) -> Result<()> {
        let cost = self.limits.price.map_or(0.0, |price| price.of(session.tally().usage));
        session.note_prompt_end(number, cost);
        let answer = self.redactor.clean(&session.take_answer());
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "{answer}").and_then(|()| stdout.flush());
        written.map_err(|source| output_error("answer", Some("/dev/stdout".into()), source))?;
        self.progress.data(&format!("{{\"turn\":{number},\"cost_usd\":{cost:.6}}}"));
        Ok(())
    }

    /// Offers the skills that can be used, and tells what is wrong with others.
    fn offer(&self, skills: Arc<Skills>, tools: &mut Registry) -> Arc<Skills> {
        let mut skills = Arc::unwrap_or_clone(skills);
        skills.check_tools(&tools.names());
        for problem in &skills.problems {
            self.progress.full_line(&format!("warning: {problem}"));
        }
        let skills = Arc::new(skills);
        if !skills.found.is_empty() {
            tools.add(SkillTool::new(Arc::clone(&skills)));
        }
        self.progress.full_line(&format!("loaded {} skill(s)", skills.found.len()));
        skills
    }

    fn note_skills(&self, transcript: &Transcript, skills: &Skills) {
        let directory = self.arguments.skills_dir.clone().unwrap_or_default();
        self.note(
            transcript,
            Event::Skills {
                directory: directory.display().to_string(),
                skills: skills.found.clone(),
                problems: skills.problems.clone(),
            },
        );
    }

    fn start_event(
        &self,
        model: &ModelClient,
        tools: &Registry,
        workspace: &Workspace,
        prompt: &SystemPrompt,
    ) -> Event {
        Event::Start {
            schema: SCHEMA,
            agent_version: VERSION.into(),
            model: self.profile.model.clone(),
            base_url: model.shown_url().to_owned(),
            prompt: prompt.name.to_string(),
            prompt_sha256: prompt.sha256(),
            prompt_version: prompt.version,
            multi_turn: self.arguments.multi_turn,
            trace: self.arguments.trace.clone(),
            cwd: workspace.cwd.display().to_string(),
            max_turns: self.arguments.max_turns,
            max_tokens: self.limits.max_tokens,
            max_cost_usd: self.limits.max_cost,
            timeout_s: self.arguments.timeout.map(|limit| limit.as_secs_f64()),
            tools: tools.names(),
        }
    }

    fn summary(&self, end: &End, tally: Tally) -> Summary {
        let exit_code = end.exit_code();
        Summary {
            schema: SCHEMA,
            agent_version: VERSION.into(),
            outcome: Outcome::of_exit_code(exit_code),
            exit_code,
            error: end.error(tally).map(|error| self.redactor.clean(&error)),
            model: self.profile.model.clone(),
            turns: tally.turns,
            tool_calls: tally.tool_calls,
            usage: tally.usage,
            cost_usd: self.limits.price.map(|price| price.of(tally.usage)),
            elapsed_s: (self.start.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0,
        }
    }

    /// Writes the last line of the transcript, the summary and the error; returns the exit code.
    fn record(&self, summary: Summary, transcript: &Transcript) -> u8 {
        self.note(
            transcript,
            Event::End {
                outcome: summary.outcome,
                exit_code: summary.exit_code,
                error: summary.error.clone(),
                turns: summary.turns,
                usage: summary.usage,
                cost_usd: summary.cost_usd,
                elapsed_s: summary.elapsed_s,
            },
        );
        if let Some(error) = &summary.error {
            self.progress.full_line(error);
        }
        if let Some(path) = &self.arguments.summary
            && let Err(source) = summary.write(path)
        {
            let error = output_error("summary", Some(path.clone()), source);
            self.progress.full_line(&one_line(&error));
            return if summary.exit_code == exit_code::ANSWERED {
                error.exit_code()
            } else {
                summary.exit_code
            };
        }
        summary.exit_code
    }

    fn note(&self, transcript: &Transcript, event: Event) {
        if let Err(error) = transcript.write(event) {
            self.progress.line(&format!("warning: the transcript ends here: {error}"));
        }
    }
}

fn output_error(what: &'static str, path: Option<PathBuf>, source: io::Error) -> Error {
    Error::Output { what, path: path.unwrap_or_default(), source }
}

fn input_error(what: &'static str, path: &std::path::Path, source: io::Error) -> Error {
    Error::Input { what, path: path.to_owned(), source }
}

/// Makes `cwd` the working directory of this process.
fn enter(cwd: Option<PathBuf>) -> Result<Workspace> {
    let path = cwd.unwrap_or_else(|| PathBuf::from("."));
    let entered = std::env::set_current_dir(&path).and_then(|()| std::env::current_dir());
    let cwd = entered.map_err(|source| Error::WorkingDirectory { path, source })?;
    Ok(Workspace { cwd })
}

/// Ends with the limit when so much time has passed since the start; never without one.
async fn elapsed(limit: Option<Duration>, start: Instant) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit.saturating_sub(start.elapsed())).await;
            limit
        }
        None => std::future::pending().await,
    }
}

/// The signals that end a run in good order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn received(&mut self) -> (&'static str, u8) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", exit_code::INTERRUPTED),
            _ = self.terminate.recv() => ("SIGTERM", exit_code::TERMINATED),
        }
    }
}
