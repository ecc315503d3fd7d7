//! Functions that are called at certain times: cron expressions and periods of deployed apps.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan as _, Zoned};
use modal_proto::client::schedule::{Cron, Period, ScheduleOneof};
use modal_proto::client::{
    DataFormat, FunctionCallInvocationType, FunctionCallType, FunctionInput, Schedule,
    function_input::ArgsOneof,
};
use std::sync::Arc;

use super::calls::NewCall;
use super::records::FunctionRecord;
use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::FunctionId;

/// `pickle.dumps(((), {}))`: a call without arguments.
const NO_ARGUMENTS: &[u8] = b"\x80\x04)}\x86.";
/// The longest nap: the wall clock may be set meanwhile.
const LONGEST_NAP: Duration = Duration::from_secs(60);
/// A cron expression that matches nothing within this many days never will.
const HORIZON_DAYS: i64 = 366 * 5;

/// Calls functions when it is time, as long as the server runs.
pub(super) async fn run(ctx: Ctx) {
    loop {
        let nap = match turn(&ctx).await {
            Ok(nap) => nap,
            Err(error) => {
                tracing::warn!(%error, "scheduled functions are not looked at");
                LONGEST_NAP
            }
        };
        tokio::select! {
            () = ctx.functions.scheduled.notified() => {}
            () = tokio::time::sleep(nap.clamp(Duration::from_millis(50), LONGEST_NAP)) => {}
            () = ctx.stop.cancelled() => return,
        }
    }
}

/// Calls what is due; answers how long nothing will be.
async fn turn(ctx: &Ctx) -> Result<Duration> {
    let mut nap = LONGEST_NAP;
    for (record, schedule) in scheduled(ctx).await? {
        let now = clock::now();
        let last = match last_fired(ctx, &record.id).await? {
            Some(last) => last,
            None => {
                // A period begins with the deployment.
                note(ctx, &record.id, now).await?;
                now
            }
        };
        let Some(next) = next_after(&schedule, last) else { continue };
        if next <= now {
            note(ctx, &record.id, now).await?;
            fire(ctx, &record).await;
            nap = Duration::ZERO;
        } else {
            nap = nap.min(Duration::from_secs_f64(next - now));
        }
    }
    Ok(nap)
}

/// Whether some function of a deployed app is called by the clock.
pub(crate) async fn any(ctx: &Ctx) -> bool {
    scheduled(ctx).await.is_ok_and(|scheduled| !scheduled.is_empty())
}

async fn scheduled(ctx: &Ctx) -> Result<Vec<(FunctionRecord, Schedule)>> {
    let mut found = Vec::new();
    for app in ctx.apps.deployed().await? {
        let Some(deployment) = ctx.functions.deployments.current(&app).await? else { continue };
        for id in deployment.layout.functions.values() {
            let record = ctx.functions.records.get(&FunctionId::parse(id)?).await?;
            let Some(definition) = &record.definition else { continue };
            let data = ctx.functions.records.definition(definition).await?;
            if let Some(schedule) = data.schedule.filter(|it| it.schedule_oneof.is_some()) {
                found.push((record, schedule));
            }
        }
    }
    Ok(found)
}

async fn fire(ctx: &Ctx, record: &FunctionRecord) {
    let call = NewCall {
        function: record.id.clone(),
        app: record.app.clone(),
        kind: FunctionCallType::Unary,
        invocation: FunctionCallInvocationType::Async,
        parent: String::new(),
        retries_here: true,
    };
    let input = FunctionInput {
        args_oneof: Some(ArgsOneof::Args(NO_ARGUMENTS.to_vec())),
        data_format: DataFormat::Pickle.into(),
        ..FunctionInput::default()
    };
    let called = async {
        let (_, inputs) = ctx.functions.calls.begin(&call, vec![(0, input)]).await?;
        for input in inputs {
            ctx.functions.submit(ctx, Arc::new(input)).await?;
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = called.await {
        tracing::warn!(%error, function = %record.name, "a scheduled function was not called");
    }
}

async fn last_fired(ctx: &Ctx, function: &FunctionId) -> Result<Option<f64>> {
    sqlx::query_scalar("SELECT fired_at FROM function_schedules WHERE function_id = ?")
        .bind(function.as_str())
        .fetch_optional(&ctx.db)
        .await
        .map_err(Error::database("read schedules"))
}

async fn note(ctx: &Ctx, function: &FunctionId, at: f64) -> Result<()> {
    sqlx::query("INSERT OR REPLACE INTO function_schedules VALUES (?, ?)")
        .bind(function.as_str())
        .bind(at)
        .execute(&ctx.db)
        .await
        .map(drop)
        .map_err(Error::database("record a schedule"))
}

/// Refuses a schedule that cannot be kept.
pub(crate) fn check(schedule: &Schedule) -> Result<()> {
    match &schedule.schedule_oneof {
        Some(ScheduleOneof::Cron(cron)) => {
            Fields::parse(&cron.cron_string)?;
            zone(cron).map(drop)
        }
        Some(ScheduleOneof::Period(period)) if span(period).is_none() => {
            Err(Error::invalid("a period of a schedule must be longer than nothing"))
        }
        _ => Ok(()),
    }
}

/// When it is time again, after `last`; both in seconds since 1970.
fn next_after(schedule: &Schedule, last: f64) -> Option<f64> {
    match schedule.schedule_oneof.as_ref()? {
        ScheduleOneof::Cron(cron) => {
            let fields = Fields::parse(&cron.cron_string).ok()?;
            fields.next(&zoned(last, zone(cron).ok()?)?).map(|at| seconds(&at))
        }
        ScheduleOneof::Period(period) => {
            let last = zoned(last, TimeZone::UTC)?;
            last.checked_add(span(period)?).ok().map(|at| seconds(&at))
        }
    }
}

fn zone(cron: &Cron) -> Result<TimeZone> {
    match cron.timezone.as_str() {
        "" | "UTC" => Ok(TimeZone::UTC),
        name => TimeZone::get(name)
            .map_err(|error| Error::invalid(format!("time zone `{name}` of a schedule: {error}"))),
    }
}

fn zoned(seconds: f64, zone: TimeZone) -> Option<Zoned> {
    let timestamp = jiff::Timestamp::from_microsecond((seconds * 1e6) as i64).ok()?;
    Some(timestamp.to_zoned(zone))
}

fn seconds(at: &Zoned) -> f64 {
    at.timestamp().as_microsecond() as f64 / 1e6
}

/// `None` for a period of no length.
fn span(period: &Period) -> Option<Span> {
    let micros = (f64::from(period.seconds) * 1e6) as i64;
    let span = Span::new()
        .try_years(period.years)
        .and_then(|span| span.try_months(period.months))
        .and_then(|span| span.try_weeks(period.weeks))
        .and_then(|span| span.try_days(period.days))
        .and_then(|span| span.try_hours(period.hours))
        .and_then(|span| span.try_minutes(period.minutes))
        .and_then(|span| span.try_microseconds(micros))
        .ok()?;
    (span.is_positive()).then_some(span)
}

/// The five fields of a cron expression, each as the set of numbers that match.
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// With both days stated, one of them is enough.
    either_day: bool,
}

impl Fields {
    fn parse(text: &str) -> Result<Self> {
        let invalid =
            || Error::invalid(format!("`{text:.100}` is no cron expression of five fields"));
        let words: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = words[..] else { return Err(invalid()) };
        let field = |word, range, names: &[&str]| numbers(word, range, names).ok_or_else(invalid);
        let weekdays_set = field(weekdays, 0..=7, &WEEKDAYS)?;
        Ok(Self {
            minutes: field(minutes, 0..=59, &[])?,
            hours: field(hours, 0..=23, &[])?,
            days: field(days, 1..=31, &[])?,
            months: field(months, 1..=12, &MONTHS)?,
            // Sunday is 0 and 7.
            weekdays: weekdays_set | (weekdays_set >> 7 & 1),
            either_day: !days.starts_with('*') && !weekdays.starts_with('*'),
        })
    }

    fn matches_day(&self, at: DateTime) -> bool {
        let has = |set: u64, number: i8| set >> number & 1 == 1;
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        has(self.months, at.month())
            && if self.either_day { day || weekday } else { day && weekday }
    }

    /// The first minute after `last` that matches.
    fn next(&self, last: &Zoned) -> Option<Zoned> {
        let zone = last.time_zone().clone();
        let mut date = last.date();
        let after = last.timestamp();
        for _ in 0..HORIZON_DAYS {
            if self.matches_day(date.to_datetime(jiff::civil::time(0, 0, 0, 0))) {
                let minutes = (0..24 * 60).filter(|minute| {
                    self.hours >> (minute / 60) & 1 == 1 && self.minutes >> (minute % 60) & 1 == 1
                });
                for minute in minutes {
                    let (hour, minute) = ((minute / 60) as i8, (minute % 60) as i8);
                    let at = date.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok()?;
                    if at.timestamp() > after {
                        return Some(at);
                    }
                }
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }
}

const MONTHS: [&str; 13] =
    ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// `*`, `5`, `1-5`, `*/15`, `mon,wed`, and lists of these.
fn numbers(word: &str, range: std::ops::RangeInclusive<u32>, names: &[&str]) -> Option<u64> {
    let number = |text: &str| {
        let named =
            names.iter().position(|name| !name.is_empty() && name.eq_ignore_ascii_case(text));
        let number = named.and_then(|at| u32::try_from(at).ok()).or_else(|| text.parse().ok())?;
        range.contains(&number).then_some(number)
    };
    let mut set = 0;
    for part in word.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, step.parse::<u32>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (first, last) = match span.split_once('-') {
            _ if span == "*" => (*range.start(), *range.end()),
            Some((first, last)) => (number(first)?, number(last)?),
            None if part.contains('/') => (number(span)?, *range.end()),
            None => (number(span)?, number(span)?),
        };
        if first > last {
            return None;
        }
        for number in (first..=last).step_by(step as usize) {
            set |= 1 << number;
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(cron: &str, zone: &str, last: &str) -> String {
        let schedule = Schedule {
            schedule_oneof: Some(ScheduleOneof::Cron(Cron {
                cron_string: cron.into(),
                timezone: zone.into(),
            })),
        };
        check(&schedule).unwrap();
        let last: jiff::Timestamp = last.parse().unwrap();
        let at = next_after(&schedule, last.as_second() as f64).unwrap();
        jiff::Timestamp::from_second(at as i64).unwrap().to_string()
    }

    #[test]
    fn cron_expressions() {
        let cases = [
            ("* * * * *", "2026-11-26T07:00:30Z", "2026-11-26T07:01:00Z"),
            ("*/15 * * * *", "2026-11-26T07:00:00Z", "2026-11-26T07:15:00Z"),
            ("30 4 * * *", "2026-11-26T07:00:00Z", "2026-11-27T04:30:00Z"),
            ("0 9 * * mon-fri", "2026-11-27T10:00:00Z", "2026-11-30T09:00:00Z"),
            ("0 0 1 jan *", "2026-11-27T10:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 0 13 * fri", "2026-11-28T00:00:00Z", "2026-12-04T00:00:00Z"),
            ("0 0 * * 7", "2026-11-26T00:00:00Z", "2026-11-29T00:00:00Z"),
        ];
        for (cron, last, expected) in cases {
            assert_eq!(next(cron, "", last), expected, "{cron}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for cron in ["", "* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *"] {
            assert!(Fields::parse(cron).is_err(), "{cron}");
        }
        let nothing = ScheduleOneof::Period(Period::default());
        assert!(check(&Schedule { schedule_oneof: Some(nothing) }).is_err());
    }

    #[test]
    fn periods_count_from_the_last_time() {
        let period = Period { days: 1, seconds: 0.5, ..Default::default() };
        let schedule = Schedule { schedule_oneof: Some(ScheduleOneof::Period(period)) };
        assert_eq!(next_after(&schedule, 100.0), Some(86_500.5));
    }
}
