//! The conversation of a run: what is offered to the model, the prompts one after the other, the answers.

use std::{
    io::{self, Write},
    sync::Arc,
};

use super::{Held, Run, VERSION, end::End, output_error, prepare::Start, stop::Stop};
use crate::{
    agent::{Ending, Parts, Session},
    error::{Error, Result},
    hardening,
    mcp::{Servers, config::ServerConfig},
    model::ModelClient,
    prompt::SystemPrompt,
    prompts::Prompts,
    skills::{SkillTool, Skills},
    summary::SCHEMA,
    tool::{Registry, Workspace},
    transcript::Event,
};

impl Run {
    /// Holds the conversation on an event loop of its own.
    pub(super) fn hold(&self, start: Start, stop: Stop) -> Held {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::Setup)?;
        hardening::adopt_orphans();
        let result = runtime.block_on(self.converse(start, stop));
        // A search that is still busy on its thread is not waited for.
        runtime.shutdown_background();
        result
    }

    async fn converse(&self, start: Start, mut stop: Stop) -> Held {
        let stopped = |cause| Ok((End::Stopped(cause), String::new()));
        let Start { system_prompt, skills, servers, workspace } = start;
        let trace = &self.arguments.trace;
        let model = ModelClient::new(&self.endpoint, trace, self.redactor.clone())?;
        let mut tools = Registry::standard(&workspace, &self.processes);
        let skills = skills.map(|skills| self.offer(skills, &mut tools));
        self.note(self.start_event(&model, &tools, &workspace, &system_prompt));
        if let Some(skills) = &skills {
            self.note_skills(skills);
        }
        let mut prompts = match stop.unless_asked(Prompts::of(&self.arguments)).await {
            Ok(prompts) => prompts?,
            Err(cause) => return stopped(cause),
        };
        let mcp = match stop.unless_asked(self.connect(servers, &mut tools)).await {
            Ok(mcp) => mcp,
            Err(cause) => return stopped(cause),
        };
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
            ledger: &self.recorder.ledger,
            transcript: &self.recorder.transcript,
            progress: &self.progress,
        };
        let mut session = Session::new(parts, instructions);
        let work = self.work_on(&mut session, &mut prompts);
        let end = match stop.unless_asked(work).await {
            Ok(Ok(ending)) => End::Work(ending),
            Ok(Err(error)) => End::Failed(error),
            Err(cause) => End::Stopped(cause),
        };
        if let Some(mcp) = &mcp {
            mcp.close().await;
        }
        let mut answer = if end.has_answer() { session.take_answer() } else { String::new() };
        if prompts.are_many() && !answer.is_empty() {
            answer.push('\n');
        }
        Ok((end, self.redactor.clean(&answer)))
    }

    /// Starts or reaches the MCP servers, and says which.
    async fn connect(
        &self,
        servers: Option<Vec<ServerConfig>>,
        tools: &mut Registry,
    ) -> Option<Servers> {
        let configs = servers?;
        let (servers, news) =
            Servers::connect(&configs, &self.processes, &self.redactor, tools).await;
        for news in news {
            self.progress.full_line(&news.to_string());
            self.note(Event::Mcp { turn: 0, news });
        }
        Some(servers)
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

    /// Prints the answer to one of several prompts, and what the conversation has cost so far: null where no price is
    /// known.
    fn answer(&self, session: &mut Session<'_>, number: u32) -> Result<()> {
        let cost = self.limits.price.map(|price| price.of(session.tally().usage));
        session.note_prompt_end(number, cost);
        let answer = self.redactor.clean(&session.take_answer());
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "{answer}").and_then(|()| stdout.flush());
        written.map_err(|source| output_error("answer", Some("/dev/stdout".into()), source))?;
        let cost = cost.map_or("null".to_owned(), |cost| format!("{cost:.6}"));
        self.progress.data(&format!("{{\"turn\":{number},\"cost_usd\":{cost}}}"));
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

    fn note_skills(&self, skills: &Skills) {
        let directory = self.arguments.skills_dir.clone().unwrap_or_default();
        self.note(Event::Skills {
            directory: directory.display().to_string(),
            skills: skills.found.clone(),
            problems: skills.problems.clone(),
        });
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
}
