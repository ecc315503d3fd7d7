//! A skill in a conversation of its own: its text is the prompt, its answer the result of the call.
//!
//! It is offered the tools that it allows, and no skills, so that it can't go on for ever. Its turns and tokens are
//! those of the run.

use std::time::Instant;

use super::{Ending, Parts, Session, calls::Call};
use crate::{
    model::ModelError,
    skills::{self, Context, SKILL, Skill},
    tool::{Arguments, ToolOutput},
    transcript::Event,
};

impl Session<'_> {
    /// The skill that this call puts into a conversation of its own, and what is given to it.
    pub(super) fn forks(&self, call: &Call) -> Option<(Skill, String)> {
        let skills = self.parts.skills.filter(|_| call.name == SKILL)?;
        let arguments = Arguments::parse(&call.arguments).ok()?;
        let (skill, given) = skills::wanted(skills, &arguments).ok()?;
        (skill.context == Context::Fork).then(|| (skill.clone(), given))
    }

    pub(super) async fn run_fork(&mut self, turn: u32, call: &Call) -> String {
        self.note_call(turn, call);
        let start = Instant::now();
        let output = match self.forks(call) {
            Some((skill, given)) => match skill.text(&given) {
                Ok(text) => self.converse_apart(turn, call, &skill, &text).await,
                Err(problem) => ToolOutput::error(format!("Error: {problem}")),
            },
            None => ToolOutput::error("Error: the skill is gone"),
        };
        // The answer is a model's, made of whatever it has read.
        self.take_result(turn, call, output, false, start)
    }

    async fn converse_apart(
        &mut self,
        turn: u32,
        call: &Call,
        skill: &Skill,
        text: &str,
    ) -> ToolOutput {
        self.note(Event::Fork { turn, id: call.id.clone(), skill: skill.name.clone() });
        let tools = self.parts.tools.subset(|name| name != SKILL && skill.allows(name));
        let left = self.turn_limit.saturating_sub(self.tally().turns);
        let parts = Parts { tools: &tools, skills: None, mcp: None, ..self.parts };
        let mut apart = Session::new(parts, self.instructions().to_owned());
        // Ids are told apart in all of a run, or nobody could tell from the transcript where this ends.
        apart.ids = std::mem::take(&mut self.ids);
        // Boxed: a conversation inside a conversation.
        let ended = Box::pin(apart.work(text, left)).await;
        let answer = apart.answer().to_owned();
        self.ids = std::mem::take(&mut apart.ids);
        output(ended, answer, &skill.name)
    }
}

fn output(ended: Result<Ending, ModelError>, answer: String, skill: &str) -> ToolOutput {
    match ended {
        Ok(Ending::Answered) => ToolOutput::ok(answer),
        Ok(limit) => {
            let limit = match limit {
                Ending::TokensUsedUp => "tokens",
                Ending::CostUsedUp => "money",
                _ => "turns",
            };
            ToolOutput::error(format!(
                "{answer}\n[the skill `{skill}` used up the {limit} of the run]"
            ))
        }
        Err(error) => {
            ToolOutput::error(format!("Error: the skill `{skill}` got no answer: {error}"))
        }
    }
}
