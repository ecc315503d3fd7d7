//! The mistakes, each with what comes of it, and a working configuration beside it.

use std::{future::Future, pin::Pin, time::Duration};

use litellm_config::Context;
use serde_json::json;

use crate::support::{
    proxy::{Proxy, until},
    upstream::{Seen, Upstream},
};

type Seeing<'p> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'p>>;
type See = Box<dyn for<'p> Fn(&'p Proxy<'_>, &'p Upstream) -> Seeing<'p> + Send + Sync>;

/// What the real proxy does.
pub(crate) enum Expect {
    /// It does not start: the exit code, and a word of the log.
    Exits(i64, &'static str),
    /// It starts, and this is seen.
    Sees(See),
}

/// One mistake.
pub(crate) struct Case {
    pub(crate) rule: &'static str,
    pub(crate) what: &'static str,
    pub(crate) mistake: &'static str,
    pub(crate) env: &'static [(&'static str, &'static str)],
    pub(crate) sound: &'static str,
    pub(crate) sound_env: &'static [(&'static str, &'static str)],
    /// Files beside the working configuration.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// Files beside the mistaken one.
    pub(crate) mistake_files: &'static [(&'static str, &'static str)],
    pub(crate) context: fn(&mut Context),
    pub(crate) expect: fn(&str) -> Expect,
    pub(crate) works: fn(&str) -> Expect,
    /// More arguments of the proxy, for the mistake.
    pub(crate) args: &'static [&'static str],
    /// Python packages that are as if they were not installed, for the mistake.
    pub(crate) hidden: &'static [&'static str],
    /// The one version set that it concerns.
    pub(crate) only: Option<&'static str>,
}

impl Case {
    /// Starting several workers takes minutes on a busy machine: only where every case is wanted.
    pub(crate) fn is_slow(&self) -> bool {
        !self.args.is_empty()
    }

    /// Whether the mistake lies in what is around the file.
    pub(crate) fn is_context_of_mistake(&self) -> bool {
        !self.args.is_empty()
    }

    pub(crate) fn is_of(&self, set: &str) -> bool {
        self.only.is_none_or(|only| only == set)
    }

    fn new(
        rule: &'static str,
        what: &'static str,
        mistake: &'static str,
        expect: fn(&str) -> Expect,
    ) -> Self {
        Self {
            rule,
            what,
            mistake,
            env: &[],
            sound: SOUND,
            sound_env: &[],
            files: &[],
            mistake_files: &[],
            args: &[],
            hidden: &[],
            context: |_| {},
            expect,
            works: |_| answers("m", 200, "hello"),
            only: None,
        }
    }

    fn sound(mut self, sound: &'static str) -> Self {
        self.sound = sound;
        self
    }

    fn works(mut self, works: fn(&str) -> Expect) -> Self {
        self.works = works;
        self
    }

    fn env(mut self, env: &'static [(&'static str, &'static str)]) -> Self {
        self.env = env;
        self
    }

    fn sound_env(mut self, env: &'static [(&'static str, &'static str)]) -> Self {
        self.sound_env = env;
        self
    }

    fn files(mut self, files: &'static [(&'static str, &'static str)]) -> Self {
        self.files = files;
        self
    }

    fn mistake_files(mut self, files: &'static [(&'static str, &'static str)]) -> Self {
        self.mistake_files = files;
        self
    }

    fn args(mut self, args: &'static [&'static str]) -> Self {
        self.args = args;
        self
    }

    fn hidden(mut self, hidden: &'static [&'static str]) -> Self {
        self.hidden = hidden;
        self
    }

    fn context(mut self, context: fn(&mut Context)) -> Self {
        self.context = context;
        self
    }

    fn only(mut self, set: &'static str) -> Self {
        self.only = Some(set);
        self
    }
}

fn sees<F>(see: F) -> Expect
where
    F: for<'p> Fn(&'p Proxy<'_>, &'p Upstream) -> Seeing<'p> + Send + Sync + 'static,
{
    Expect::Sees(Box::new(see))
}

/// A chat with the model ends so.
fn answers(model: &'static str, status: u16, word: &'static str) -> Expect {
    sees(move |proxy, _| {
        Box::pin(async move {
            let (real, text) = proxy.chat(model).await;
            ensure(real == status && text.contains(word), || {
                format!("{model} answers {real}, not {status}, or without `{word}`: {text}")
            })
        })
    })
}

/// After a chat with the model, its server has got this.
fn upstream_got(model: &'static str, wanted: fn(&[Seen]) -> bool) -> Expect {
    sees(move |proxy, upstream| {
        Box::pin(async move {
            let answer = proxy.chat(model).await;
            let seen = upstream.seen.all();
            ensure(wanted(&seen), || format!("{answer:?}, and its server got {seen:#?}"))
        })
    })
}

/// After a chat with the model, something was to go to this host.
fn goes_to(model: &'static str, host: &'static str) -> Expect {
    sees(move |proxy, upstream| {
        Box::pin(async move {
            let answer = proxy.chat(model).await;
            let seen = upstream.seen.all();
            let went = seen.iter().any(|it| it.method == "CONNECT" && it.path.contains(host));
            ensure(went, || format!("{answer:?}; nothing went to {host}: {seen:#?}"))
        })
    })
}

/// It starts, says so, and works.
fn logs(word: &'static str) -> Expect {
    sees(move |proxy, _| {
        Box::pin(async move {
            let answer = proxy.chat("m").await;
            ensure(answer.0 == 200, || format!("{answer:?}"))?;
            ensure(proxy.log().contains(word), || format!("the log does not say `{word}`"))
        })
    })
}

/// The cost that the proxy counts for a chat.
fn costs(model: &'static str, wanted: fn(f64) -> bool) -> Expect {
    sees(move |proxy, _| {
        Box::pin(async move {
            let cost = proxy.cost(model).await.unwrap_or(0.0);
            ensure(wanted(cost), || format!("a chat with {model} costs {cost}"))
        })
    })
}

/// Traces of a chat arrive at Langfuse, or do not.
fn traces(arrive: bool) -> Expect {
    sees(move |proxy, upstream| {
        Box::pin(async move {
            let answer = proxy.chat("m").await;
            ensure(answer.0 == 200, || format!("{answer:?}"))?;
            let posted = |seen: &crate::support::upstream::Seens| {
                seen.all().iter().any(|it| {
                    it.path.starts_with("/api/public/ingestion")
                        || it.path.starts_with("/api/public/otel")
                })
            };
            let limit = if arrive { 30 } else { 5 };
            let came = until(&upstream.seen, Duration::from_secs(limit), posted).await;
            ensure(came == arrive, || format!("traces arrived: {came}"))
        })
    })
}

/// The proxy asks its upstream for models by itself, within 30 s of its start; or not within five.
fn probes(does: bool) -> Expect {
    sees(move |_, upstream| {
        Box::pin(async move {
            let probe =
                |seen: &crate::support::upstream::Seens| seen.count("GET", "/v1/models") > 0;
            let limit = if does { 30 } else { 5 };
            let probed = until(&upstream.seen, Duration::from_secs(limit), probe).await;
            ensure(probed == does, || format!("it asked for models: {probed}"))
        })
    })
}

/// How often the model's server was asked for one chat.
fn posts(model: &'static str, wanted: usize) -> Expect {
    sees(move |proxy, upstream| {
        Box::pin(async move {
            let answer = proxy.chat(model).await;
            let count = upstream.seen.count("POST", "/chat/completions");
            ensure(count == wanted, || format!("{count} posts, not {wanted}: {answer:?}"))
        })
    })
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn is_new(set: &str) -> bool {
    set == "langfuse-3"
}

/// A configuration that works.
const SOUND: &str = r#"
model_list:
  - model_name: m
    litellm_params: {model: openai/gpt-4o-mini, api_base: "{up}/v1", api_key: key}
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
"#;

macro_rules! with_m {
    ($rest:expr) => {
        concat!(
            "model_list:\n",
            "  - model_name: m\n",
            "    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: key}\n",
            $rest
        )
    };
}

macro_rules! keyed {
    ($rest:expr) => {
        concat!($rest, "general_settings: {master_key: os.environ/LITELLM_MASTER_KEY}\n")
    };
}

const HOOK: &str = "\
from litellm.proxy._types import UserAPIKeyAuth

async def auth(request, api_key):
    return UserAPIKeyAuth(api_key=api_key, models=['m'])
";

const LANGFUSE: &[(&str, &str)] =
    &[("LANGFUSE_PUBLIC_KEY", "pk"), ("LANGFUSE_SECRET_KEY", "sk"), ("LANGFUSE_HOST", "{up}")];

pub(crate) fn cases() -> Vec<Case> {
    [files(), models(), providers(), sleeping(), routing(), settings(), langfuse(), keys()]
        .into_iter()
        .flatten()
        .collect()
}

fn files() -> Vec<Case> {
    vec![
        Case::new("yaml-syntax", "an open bracket", "model_list: [\n", |_| Expect::Exits(1, "line")),
        Case::new("yaml-syntax", "a tab as indentation", "model_list:\n\t- model_name: m\n", |_| {
            Expect::Exits(1, "line 2")
        }),
        Case::new(
            "duplicate-key",
            "a second, empty model_list",
            keyed!(with_m!("model_list: []\n")),
            |_| answers("m", 400, "Invalid model name"),
        ),
        Case::new(
            "missing-include",
            "a file that is not there",
            keyed!(with_m!("include: [more.yaml]\n")),
            |_| Expect::Exits(1, "FileNotFoundError"),
        )
        .files(&[("more.yaml", "litellm_settings: {drop_params: true}\n")])
        .sound(keyed!(with_m!("include: [more.yaml]\n"))),
        Case::new("model-list", "a mapping", keyed!("model_list:\n  m: {model: openai/gpt-4o-mini}\n"), |_| {
            Expect::Exits(3, "AttributeError")
        }),
        Case::new("model-list", "empty", keyed!("model_list: []\n"), |_| answers("m", 400, "Invalid model name")),
        Case::new(
            "model-list",
            "model_name misspelt",
            keyed!("model_list:\n  - modelname: m\n    litellm_params: {model: openai/x}\n"),
            |_| Expect::Exits(3, "KeyError"),
        ),
        Case::new("model-list", "no litellm_params", keyed!("model_list:\n  - model_name: m\n"), |_| {
            Expect::Exits(3, "KeyError")
        }),
        Case::new(
            "not-a-string",
            "a bare number as name",
            keyed!("model_list:\n  - model_name: 007\n    litellm_params: {model: openai/x, api_base: \"{up}/v1\", api_key: k}\n"),
            |_| Expect::Exits(3, "TypeError"),
        )
        .sound(keyed!("model_list:\n  - model_name: \"007\"\n    litellm_params: {model: openai/x, api_base: \"{up}/v1\", api_key: k}\n"))
        .works(|_| answers("007", 200, "hello")),
        Case::new(
            "not-a-string",
            "a bare date as api_version",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: azure/gpt-4o-mini, api_base: \"{up}\", api_key: k, api_version: 2024-06-01}\n"),
            |_| answers("m", 400, ""),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: azure/gpt-4o-mini, api_base: \"{up}\", api_key: k, api_version: \"2024-06-01\"}\n")),
        Case::new(
            "not-a-string",
            "a number as key",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/x, api_base: \"{up}/v1\", api_key: 12345}\n"),
            |_| answers("m", 400, ""),
        ),
        Case::new(
            "unknown-block",
            "litelm_settings",
            keyed!(with_m!("litelm_settings: {callbacks: [nobody-has-this]}\n")),
            |_| answers("m", 200, "hello"),
        )
        .sound(keyed!(with_m!("x-note: kept\nlitellm_settings: {drop_params: true}\n"))),
    ]
}

fn models() -> Vec<Case> {
    vec![
        Case::new(
            "unknown-param",
            "temprature",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: k, temprature: 0.5}\n"),
            |_| upstream_got("m", |seen| seen.iter().any(|it| it.body["temprature"] == json!(0.5))),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: k, temperature: 0.5}\n")),
        Case::new(
            "unknown-param",
            "refused by a strict server",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/strict, api_base: \"{up}/v1\", api_key: k, max_tokns: 5}\n"),
            |_| answers("m", 400, "Unrecognized request argument"),
        ),
        Case::new(
            "unknown-info",
            "input_cost_per_tokn",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1\", api_key: k}\n    model_info: {input_cost_per_tokn: 0.001}\n"),
            |_| costs("m", |cost| cost == 0.0),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1\", api_key: k}\n    model_info: {input_cost_per_token: 0.001, output_cost_per_token: 0.001, note: mine}\n"))
        .works(|_| costs("m", |cost| (cost - 0.018).abs() < 1e-9)),
        Case::new(
            "wrong-type",
            "max_budget: abc",
            keyed!(with_m!("litellm_settings: {max_budget: abc}\n")),
            |_| Expect::Exits(3, "could not convert string to float"),
        ),
        Case::new(
            "wrong-type",
            "timeout: 5m",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: k, timeout: 5m}\n"),
            |_| answers("m", 500, "could not convert string to float"),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: k, timeout: \"300\"}\n")),
        Case::new(
            "wrong-type",
            "a price that is a word",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: k}\n    model_info: {input_cost_per_token: cheap}\n"),
            |_| answers("m", 400, ""),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: k}\n    model_info: {input_cost_per_token: 1e-6, output_cost_per_token: 0.000002}\n"))
        .works(|_| costs("m", |cost| (cost - 25e-6).abs() < 1e-12)),
        Case::new(
            "wrong-type",
            "temperature: hot",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: k, temperature: hot}\n"),
            |_| upstream_got("m", |seen| seen.iter().any(|it| it.body["temperature"] == json!("hot"))),
        ),
        Case::new(
            "literal-variable",
            "${KEY}",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: \"${MY_KEY}\"}\n"),
            |_| upstream_got("m", |seen| seen.iter().any(|it| it.authorization.as_deref() == Some("Bearer ${MY_KEY}"))),
        )
        .env(&[("MY_KEY", "key-of-mine")])
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: os.environ/MY_KEY}\n"))
        .sound_env(&[("MY_KEY", "key-of-mine")])
        .works(|_| upstream_got("m", |seen| seen.iter().any(|it| it.authorization.as_deref() == Some("Bearer key-of-mine")))),
        Case::new(
            "literal-key",
            "a key in the file",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: sk-proj-8Jq2Lr5Zt9Xw3Vb7}\n"),
            |_| upstream_got("m", |seen| seen.iter().any(|it| it.authorization.as_deref() == Some("Bearer sk-proj-8Jq2Lr5Zt9Xw3Vb7"))),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: not-needed-for-this-server}\n")),
        Case::new(
            "unset-variable",
            "a key's variable",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: os.environ/NOT_SET}\n"),
            |_| answers("m", 500, "api_key"),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: os.environ/IS_SET}\n"))
        .sound_env(&[("IS_SET", "key")]),
        Case::new(
            "late-environment",
            "the key's variable in environment_variables",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: os.environ/LATE}\nenvironment_variables: {LATE: key}\n"),
            |_| answers("m", 500, "api_key"),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: os.environ/LATE}\nenvironment_variables: {LATE: key}\n"))
        .sound_env(&[("LATE", "key")]),
        Case::new(
            "duplicate-model-name",
            "two models",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/one, api_base: \"{up}/v1\", api_key: k}\n  - model_name: m\n    litellm_params: {model: openai/two, api_base: \"{up}/v1\", api_key: k}\n"),
            |_| {
                sees(|proxy, upstream| {
                    Box::pin(async move {
                        let both = || {
                            let seen = upstream.seen.all();
                            ["one", "two"].iter().all(|name| seen.iter().any(|it| it.body["model"] == **name))
                        };
                        for _ in 0..60 {
                            proxy.chat("m").await;
                            if both() {
                                return Ok(());
                            }
                        }
                        Err("60 requests went to one of both".to_owned())
                    })
                })
            },
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/one, api_base: \"{up}/v1\", api_key: k, weight: 1}\n  # litellm-lint: allow duplicate-model-name\n  - model_name: m\n    litellm_params: {model: openai/two, api_base: \"{up}/v1\", api_key: k}\n")),
        Case::new(
            "unpriced-model",
            "a base_model that nobody sells",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: azure/mine, api_base: \"{up}\", api_key: k, api_version: \"2024-10-21\"}\n    model_info: {base_model: azure/gpt-5-pico}\n"),
            |_| costs("m", |cost| cost == 0.0),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: azure/mine, api_base: \"{up}\", api_key: k, api_version: \"2024-10-21\"}\n    model_info: {base_model: azure/gpt-5-nano}\n"))
        .works(|_| costs("m", |cost| (cost - 3.35e-6).abs() < 1e-9)),
        Case::new(
            "temperature-default",
            "gpt-5-nano",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-5-nano, api_base: \"{up}/v1\", api_key: k, temperature: 0.3}\n"),
            |_| answers("m", 400, "UnsupportedParamsError"),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-5-nano, api_base: \"{up}/v1\", api_key: k, temperature: 0.3}\nlitellm_settings: {drop_params: true}\n")),
        Case::new(
            "unknown-mode",
            "chatt",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: k}\n    model_info: {mode: chatt}\n"),
            |_| answers("m", 200, "hello"),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: k}\n    model_info: {mode: chat}\n")),
        Case::new(
            "rpm-is-a-weight",
            "rpm: 1",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\", api_key: k, rpm: 1}\n"),
            |_| {
                sees(|proxy, _| {
                    Box::pin(async move {
                        for _ in 0..3 {
                            let answer = proxy.chat("m").await;
                            ensure(answer.0 == 200, || format!("limited: {answer:?}"))?;
                        }
                        Ok(())
                    })
                })
            },
        ),
    ]
}

fn providers() -> Vec<Case> {
    vec![
        Case::new(
            "unknown-provider",
            "foobar/x",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: foobar/x, api_base: \"{up}/v1\", api_key: k}\n"),
            |_| answers("m", 400, ""),
        ),
        Case::new(
            "unknown-provider",
            "no prefix",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: my-own-model, api_base: \"{up}/v1\", api_key: k}\n"),
            |_| answers("m", 400, ""),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: my-own-model, custom_llm_provider: openai, api_base: \"{up}/v1\", api_key: k}\n")),
        Case::new(
            "missing-key",
            "openai",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\"}\n"),
            |_| answers("m", 500, "api_key"),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-4o-mini, api_base: \"{up}/v1\"}\n"))
        .sound_env(&[("OPENAI_API_KEY", "key")]),
        Case::new(
            "missing-api-base",
            "hosted_vllm",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_key: k}\n"),
            |_| goes_to("m", "api.openai.com"),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_key: k}\n"))
        .sound_env(&[("HOSTED_VLLM_API_BASE", "{up}/v1")]),
        Case::new(
            "missing-api-base",
            "an open model under openai/",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/openai/gpt-oss-20b, api_key: k}\n"),
            |_| goes_to("m", "api.openai.com"),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/openai/gpt-oss-20b, api_base: \"{up}/v1\", api_key: k}\n")),
        Case::new(
            "missing-api-base",
            "azure",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: azure/gpt-4o-mini, api_key: k, api_version: \"2024-10-21\"}\n"),
            |_| answers("m", 500, "azure_endpoint"),
        ),
        Case::new(
            "api-base-path",
            "without /v1",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}\", api_key: k}\n"),
            |_| answers("m", 404, ""),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1/\", api_key: k}\n")),
        Case::new(
            "api-base-path",
            "with its route",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/mine, api_base: \"{up}/v1/chat/completions\", api_key: k}\n"),
            |_| upstream_got("m", |seen| seen.iter().any(|it| it.path == "/v1/chat/completions/chat/completions")),
        ),
    ]
}

/// A model that sleeps, and everything that is wanted for it.
const SLEEPING: &str = keyed_sleeping();

const fn keyed_sleeping() -> &'static str {
    "model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1\", api_key: k, timeout: 1800, stream_timeout: 1800, num_retries: 0, max_retries: 0}\n    model_info: {scale_to_zero: true}\ngeneral_settings: {master_key: os.environ/LITELLM_MASTER_KEY, disable_model_info_refresh: true}\n"
}

fn sleeping() -> Vec<Case> {
    vec![
        Case::new(
            "wakes-sleeping-models",
            "without the switch",
            "model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1\", api_key: k, num_retries: 0}\n    model_info: {scale_to_zero: true}\ngeneral_settings: {master_key: os.environ/LITELLM_MASTER_KEY}\n",
            |_| probes(true),
        )
        .sound(SLEEPING)
        .works(|_| probes(false))
        .only("langfuse-3"),
        Case::new(
            "sleeping-model-timeout",
            "one second",
            "model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/slow, api_base: \"{up}/v1\", api_key: k, timeout: 1, num_retries: 0, max_retries: 0}\n    model_info: {scale_to_zero: true}\ngeneral_settings: {master_key: os.environ/LITELLM_MASTER_KEY, disable_model_info_refresh: true}\n",
            |_| answers("m", 408, "imeout"),
        )
        .sound(SLEEPING),
        Case::new(
            "sleeping-model-retries",
            "retries as they are",
            "model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/slow, api_base: \"{up}/v1\", api_key: k, timeout: 1}\n    model_info: {scale_to_zero: true}\ngeneral_settings: {master_key: os.environ/LITELLM_MASTER_KEY, disable_model_info_refresh: true}\n",
            |_| posts("m", 3),
        )
        .sound(SLEEPING)
        .works(|_| posts("m", 1)),
        Case::new(
            "health-checks-wake",
            "on a timer",
            "model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1\", api_key: k, num_retries: 0}\n    model_info: {scale_to_zero: true}\ngeneral_settings: {master_key: os.environ/LITELLM_MASTER_KEY, disable_model_info_refresh: true, background_health_checks: true, health_check_interval: 2}\n",
            |_| {
                sees(|_, upstream| {
                    Box::pin(async move {
                        let limit = Duration::from_secs(30);
                        let called = until(&upstream.seen, limit, |seen| seen.count("POST", "/chat/completions") > 0).await;
                        ensure(called, || "it calls no model".to_owned())
                    })
                })
            },
        )
        .sound(SLEEPING),
    ]
}

fn routing() -> Vec<Case> {
    vec![
        Case::new(
            "fallback-shape",
            "a list of strings",
            keyed!(with_m!("litellm_settings: {fallbacks: [m]}\n")),
            |_| Expect::Exits(3, "is not a dictionary"),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/strict, api_base: \"{up}/v1\", api_key: k}\n  - model_name: other\n    litellm_params: {model: openai/mine, api_base: \"{up}/v1\", api_key: k}\nlitellm_settings: {fallbacks: [{m: [other]}]}\n")),
        Case::new(
            "unknown-fallback",
            "to a ghost",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/strict, api_base: \"{up}/v1\", api_key: k}\nlitellm_settings: {fallbacks: [{m: [ghost]}]}\n"),
            |_| answers("m", 400, "ghost"),
        ),
        Case::new(
            "unknown-fallback",
            "from a ghost",
            keyed!(with_m!("litellm_settings: {fallbacks: [{ghost: [m]}]}\n")),
            |_| answers("ghost", 400, ""),
        ),
        Case::new(
            "unknown-alias",
            "to a ghost",
            keyed!(with_m!("router_settings: {model_group_alias: {nick: ghost}}\n")),
            |_| answers("nick", 400, ""),
        )
        .sound(keyed!(with_m!("router_settings: {model_group_alias: {nick: m}}\n")))
        .works(|_| answers("nick", 200, "hello")),
        Case::new(
            "unknown-routing-strategy",
            "fastest",
            keyed!(with_m!("router_settings: {routing_strategy: fastest}\n")),
            |_| Expect::Exits(3, "routing_strategy"),
        )
        .sound(keyed!(with_m!("router_settings: {routing_strategy: least-busy}\n"))),
    ]
}

fn settings() -> Vec<Case> {
    vec![
        Case::new(
            "unknown-setting",
            "drop_parms",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-5-nano, api_base: \"{up}/v1\", api_key: k}\nlitellm_settings: {drop_parms: true}\n"),
            |_| {
                sees(|proxy, _| {
                    Box::pin(async move {
                        let body = json!({"model": "m", "temperature": 0.3, "max_tokens": 20});
                        let (status, text) = proxy.chat_as(crate::support::proxy::MASTER_KEY, &body).await;
                        ensure(status == 400 && text.contains("UnsupportedParamsError"), || format!("{status} {text}"))
                    })
                })
            },
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/gpt-5-nano, api_base: \"{up}/v1\", api_key: k}\nlitellm_settings: {drop_params: true}\n")),
        Case::new(
            "unknown-setting",
            "in router_settings",
            keyed!(with_m!("router_settings: {num_retrys: 1}\n")),
            |_| logs("num_retrys"),
        ),
        Case::new(
            "unknown-setting",
            "in retry_policy",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/slow, api_base: \"{up}/v1\", api_key: k, timeout: 1}\nrouter_settings: {retry_policy: {TimeoutErrorRetrys: 0}}\n"),
            |_| posts("m", 3),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/slow, api_base: \"{up}/v1\", api_key: k, timeout: 1}\nrouter_settings: {retry_policy: {TimeoutErrorRetries: 0}}\n"))
        .works(|_| posts("m", 1)),
        Case::new(
            "unknown-callback",
            "in callbacks",
            keyed!(with_m!("litellm_settings: {callbacks: [langfusee]}\n")),
            |_| Expect::Exits(3, ""),
        ),
        Case::new(
            "unknown-callback",
            "in success_callback",
            keyed!(with_m!("litellm_settings: {success_callback: [langfusee], failure_callback: [langfusee]}\n")),
            |_| traces(false),
        )
        .env(LANGFUSE)
        .sound(keyed!(with_m!("litellm_settings: {success_callback: [langfuse], failure_callback: [langfuse]}\n")))
        .sound_env(LANGFUSE)
        .works(|_| traces(true)),
        Case::new(
            "budget-without-database",
            "a tiny one",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1\", api_key: k}\n    model_info: {input_cost_per_token: 1.0, output_cost_per_token: 1.0}\nlitellm_settings: {max_budget: 0.0000001, budget_duration: 30d}\n"),
            |_| {
                sees(|proxy, _| {
                    Box::pin(async move {
                        for _ in 0..3 {
                            let answer = proxy.chat("m").await;
                            ensure(answer.0 == 200, || format!("enforced: {answer:?}"))?;
                        }
                        Ok(())
                    })
                })
            },
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1\", api_key: k, max_budget: 0.5, budget_duration: 1d}\n    model_info: {input_cost_per_token: 0.01, output_cost_per_token: 0.01}\n"))
        .works(|_| {
            sees(|proxy, _| {
                Box::pin(async move {
                    for _ in 0..8 {
                        if proxy.chat("m").await.0 == 429 {
                            return Ok(());
                        }
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                    Err("the entry's budget is not kept".to_owned())
                })
            })
        }),
        Case::new(
            "bad-duration",
            "1 month",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1\", api_key: k, max_budget: 5, budget_duration: 1 month}\n"),
            |_| logs_or_fails("duration"),
        )
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1\", api_key: k, max_budget: 5, budget_duration: 1mo}\n")),
        Case::new(
            "limits-per-worker",
            "an entry's budget with two workers",
            BUDGET,
            |_| passes_more_than(3),
        )
        // A busy machine needs more than five seconds to start a worker.
        .args(&["--num_workers", "2", "--timeout_worker_healthcheck", "100"])
        .context(|context| context.workers = Some(2))
        .sound(BUDGET)
        .works(|_| passes(3)),
    ]
}

/// An entry that may cost half a dollar, at 18 cents a call.
const BUDGET: &str = keyed!(
    "model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/mine, api_base: \"{up}/v1\", api_key: k, max_budget: 0.5, budget_duration: 1d}\n    model_info: {input_cost_per_token: 0.01, output_cost_per_token: 0.01}\n"
);

/// How many of 24 calls pass.
async fn passed(proxy: &Proxy<'_>) -> usize {
    let mut count = 0;
    for _ in 0..24 {
        count += usize::from(proxy.fresh().chat("m").await.0 == 200);
        // The cost is counted after the answer.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    count
}

fn passes(wanted: usize) -> Expect {
    sees(move |proxy, _| {
        Box::pin(async move {
            let count = passed(proxy).await;
            ensure(count == wanted, || format!("{count} of 24 passed, not {wanted}"))
        })
    })
}

fn passes_more_than(limit: usize) -> Expect {
    sees(move |proxy, _| {
        Box::pin(async move {
            let count = passed(proxy).await;
            ensure(count > limit, || {
                format!("{count} of 24 passed, no more than one worker lets through")
            })
        })
    })
}

/// A request fails with the word, or the log has it.
fn logs_or_fails(word: &'static str) -> Expect {
    sees(move |proxy, _| {
        Box::pin(async move {
            let answer = proxy.chat("m").await;
            let told = answer.1.contains(word) || proxy.log().contains(word);
            ensure(answer.0 == 200 || told, || format!("{answer:?}"))
        })
    })
}

fn langfuse() -> Vec<Case> {
    vec![
        Case::new(
            "failures-not-logged",
            "success_callback alone",
            keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/strict, api_base: \"{up}/v1\", api_key: k}\nlitellm_settings: {success_callback: [langfuse]}\n"),
            |_| fails_with_traces(false),
        )
        .env(LANGFUSE)
        .sound(keyed!("model_list:\n  - model_name: m\n    litellm_params: {model: openai/strict, api_base: \"{up}/v1\", api_key: k}\nlitellm_settings: {callbacks: [langfuse]}\n"))
        .sound_env(LANGFUSE)
        .works(|_| fails_with_traces(true)),
        Case::new(
            "langfuse-keys",
            "none",
            keyed!(with_m!("litellm_settings: {callbacks: [langfuse]}\n")),
            |set| if is_new(set) { nobody() } else { nobody_or_none() },
        )
        .env(&[("LANGFUSE_HOST", "{up}")])
        .sound(keyed!(with_m!("litellm_settings: {callbacks: [langfuse]}\n")))
        .sound_env(LANGFUSE)
        .works(|_| traces(true)),
        Case::new(
            "langfuse-otel-host",
            "LANGFUSE_BASE_URL alone",
            keyed!(with_m!("litellm_settings: {callbacks: [langfuse_otel]}\n")),
            |_| {
                sees(|proxy, upstream| {
                    Box::pin(async move {
                        proxy.chat("m").await;
                        let limit = Duration::from_secs(40);
                        let cloud = |seen: &crate::support::upstream::Seens| {
                            seen.all().iter().any(|it| it.path.contains("cloud.langfuse.com"))
                        };
                        let went = until(&upstream.seen, limit, cloud).await;
                        ensure(went, || format!("{:#?}", upstream.seen.all()))
                    })
                })
            },
        )
        .env(&[("LANGFUSE_PUBLIC_KEY", "pk"), ("LANGFUSE_SECRET_KEY", "sk"), ("LANGFUSE_BASE_URL", "{up}")])
        .sound(keyed!(with_m!("litellm_settings: {callbacks: [langfuse_otel]}\n")))
        .sound_env(LANGFUSE)
        .works(|_| traces(true))
        .only("langfuse-3"),
        Case::new(
            "langfuse-server",
            "another server than the set's",
            keyed!(with_m!("litellm_settings: {callbacks: [langfuse]}\n")),
            |set| if is_new(set) { sends_to("/api/public/otel/v1/traces") } else { sends_to("/api/public/ingestion") },
        )
        .env(LANGFUSE)
        .context(|context| {
            let sends_otlp = context.litellm.has_probe_switch();
            context.langfuse_server = Some(if sends_otlp { 2 } else { 4 });
        })
        .sound(SOUND),
        Case::new(
            "langfuse-sdk",
            "none installed",
            keyed!(with_m!("litellm_settings: {callbacks: [langfuse]}\n")),
            |set| if is_new(set) { Expect::Exits(3, "Could not build the 'langfuse' callback") } else { traces(false) },
        )
        .env(LANGFUSE)
        .hidden(&["langfuse"])
        .context(|context| context.langfuse_sdk = None)
        .sound(SOUND),
    ]
}

/// A chat fails, and a trace of it arrives, or not.
fn fails_with_traces(arrive: bool) -> Expect {
    sees(move |proxy, upstream| {
        Box::pin(async move {
            let answer = proxy.chat("m").await;
            ensure(answer.0 == 400, || format!("{answer:?}"))?;
            let limit = Duration::from_secs(if arrive { 30 } else { 5 });
            let posted = |seen: &crate::support::upstream::Seens| {
                seen.all().iter().any(|it| it.path.starts_with("/api/public/"))
            };
            let came = until(&upstream.seen, limit, posted).await;
            ensure(came == arrive, || format!("a trace of the failure arrived: {came}"))
        })
    })
}

/// Traces are sent as nobody (`None:None`): a server refuses them.
fn nobody() -> Expect {
    sees(|proxy, upstream| {
        Box::pin(async move {
            let answer = proxy.chat("m").await;
            ensure(answer.0 == 200, || format!("{answer:?}"))?;
            // Basic auth of `None:None`.
            let as_nobody = |seen: &crate::support::upstream::Seens| {
                seen.all()
                    .iter()
                    .any(|it| it.authorization.as_deref() == Some("Basic Tm9uZTpOb25l"))
            };
            let sent = until(&upstream.seen, Duration::from_secs(30), as_nobody).await;
            ensure(sent, || format!("{:#?}", upstream.seen.all()))
        })
    })
}

/// Traces are sent as nobody or not at all.
fn nobody_or_none() -> Expect {
    sees(|proxy, upstream| {
        Box::pin(async move {
            let answer = proxy.chat("m").await;
            ensure(answer.0 == 200, || format!("{answer:?}"))?;
            tokio::time::sleep(Duration::from_secs(4)).await;
            let sent =
                upstream.seen.all().into_iter().filter(|it| it.path.starts_with("/api/public/"));
            let keyed: Vec<_> = sent
                .filter(|it| it.authorization.as_deref() != Some("Basic Tm9uZTpOb25l"))
                .collect();
            ensure(keyed.is_empty(), || format!("{keyed:#?}"))
        })
    })
}

fn sends_to(path: &'static str) -> Expect {
    sees(move |proxy, upstream| {
        Box::pin(async move {
            proxy.chat("m").await;
            let posted = |seen: &crate::support::upstream::Seens| seen.count("POST", path) > 0;
            let sent = until(&upstream.seen, Duration::from_secs(30), posted).await;
            ensure(sent, || format!("{:#?}", upstream.seen.all()))
        })
    })
}

fn keys() -> Vec<Case> {
    vec![
        Case::new(
            "master-key",
            "none",
            with_m!(""),
            |set| {
                if is_new(set) {
                    Expect::Exits(3, "refused to start")
                } else {
                    sees(|proxy, _| {
                        Box::pin(async move {
                            let answer = proxy.chat_as("anything", &json!({"model": "m"})).await;
                            ensure(answer.0 == 200, || format!("not open to everybody: {answer:?}"))
                        })
                    })
                }
            },
        )
        .env(&[("LITELLM_MASTER_KEY", "")]),
        Case::new(
            "master-key",
            "a widely known one",
            with_m!("general_settings: {master_key: sk-1234}\n"),
            |set| {
                if is_new(set) {
                    Expect::Exits(3, "refused to start")
                } else {
                    sees(|proxy, _| {
                        Box::pin(async move {
                            let answer = proxy.chat_as("sk-1234", &json!({"model": "m"})).await;
                            ensure(answer.0 == 200, || format!("{answer:?}"))
                        })
                    })
                }
            },
        )
        .env(&[("LITELLM_MASTER_KEY", "")]),
        Case::new(
            "custom-auth-not-enforced",
            "without the switches",
            concat!(
                "model_list:\n",
                "  - model_name: m\n    litellm_params: {model: openai/one, api_base: \"{up}/v1\", api_key: k}\n",
                "  - model_name: other\n    litellm_params: {model: openai/two, api_base: \"{up}/v1\", api_key: k}\n",
                "general_settings: {master_key: os.environ/LITELLM_MASTER_KEY, custom_auth: hook.auth}\n"
            ),
            |_| answers("other", 200, "hello"),
        )
        .files(&[("hook.py", HOOK)])
        .mistake_files(&[("hook.py", HOOK)])
        .sound(concat!(
            "model_list:\n",
            "  - model_name: m\n    litellm_params: {model: openai/one, api_base: \"{up}/v1\", api_key: k}\n",
            "  - model_name: other\n    litellm_params: {model: openai/two, api_base: \"{up}/v1\", api_key: k}\n",
            "litellm_settings: {enable_post_custom_auth_checks: true}\n",
            "general_settings: {master_key: os.environ/LITELLM_MASTER_KEY, custom_auth: hook.auth, custom_auth_run_common_checks: true}\n"
        ))
        .works(|_| answers("other", 403, "")),
        Case::new(
            "missing-custom-auth",
            "no such module",
            with_m!("litellm_settings: {enable_post_custom_auth_checks: true}\ngeneral_settings: {master_key: os.environ/LITELLM_MASTER_KEY, custom_auth: nowhere.auth, custom_auth_run_common_checks: true}\n"),
            |_| Expect::Exits(3, "nowhere"),
        ),
    ]
}
