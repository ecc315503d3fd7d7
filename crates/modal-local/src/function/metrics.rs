//! What functions and servers have done, bucket by bucket: which series there are and how they are counted.
//!
//! Only what this server records: calls, requests and lives of containers. Usage of CPU, memory and network is measured while
//! a container runs and not kept, so there are no series of it.

use super::history::{Ended, PastInput, PastTask};
use crate::error::{Error, Result};
use crate::web::requests::RequestRecord;

/// Buckets to choose from where a request names none, in seconds.
const WIDTHS: [u32; 7] = [60, 300, 900, 3_600, 14_400, 28_800, 86_400];
/// As many points a series has at most then.
const CHOSEN_POINTS: u64 = 120;
/// As many points a series has at most in any case, as with the SDK.
const MOST_POINTS: u64 = 500;

/// What a series says of the records of one bucket.
type Value<T> = fn(&T, Bucket) -> Option<f64>;

/// A stretch of time, in seconds since 1970: from `start`, before `end`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) start: f64,
    pub(crate) end: f64,
}

/// One kind of number over time. Its name ends with how a bucket's records are made into one.
pub(crate) struct Series<T: 'static> {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) description: &'static str,
    pub(crate) value: Value<T>,
}

/// What is known of a function.
pub(crate) struct FunctionPast {
    pub(crate) inputs: Vec<PastInput>,
    pub(crate) tasks: Vec<PastTask>,
}

/// What is known of a server.
pub(crate) struct ServerPast {
    pub(crate) requests: Vec<RequestRecord>,
    pub(crate) tasks: Vec<PastTask>,
}

macro_rules! series {
    ($($group:literal $name:literal $unit:literal $description:literal $value:expr;)*) => {
        &[$(Series { group: $group, name: $name, unit: $unit, description: $description, value: $value }),*]
    };
}

/// The series of functions, group by group.
pub(crate) const OF_FUNCTIONS: &[Series<FunctionPast>] = series! {
    "calls" "enqueued_calls_count" "calls" "Calls that came."
        |past, bucket| Some(bucket.count(past.inputs.iter().map(|it| it.created_at)));
    "calls" "successful_calls_count" "calls" "Calls that ended with a result."
        |past, bucket| Some(ended(past, bucket, Ended::Success));
    "calls" "failed_calls_count" "calls" "Calls that ended with an error."
        |past, bucket| Some(ended(past, bucket, Ended::Failure));
    "calls" "timed_out_calls_count" "calls" "Calls that took longer than they may."
        |past, bucket| Some(ended(past, bucket, Ended::Timeout));
    "calls" "execution_time_avg" "seconds" "How long calls that ended were worked on."
        |past, bucket| average(finished(past, bucket).filter_map(|it| Some(it.finished_at? - it.started_at?)));
    "calls" "execution_time_max" "seconds" "The longest that a call that ended was worked on."
        |past, bucket| finished(past, bucket).filter_map(|it| Some(it.finished_at? - it.started_at?)).reduce(f64::max);
    "calls" "end_to_end_latency_avg" "seconds" "From when a call came to its end."
        |past, bucket| average(finished(past, bucket).filter_map(|it| Some(it.finished_at? - it.created_at)));
    "containers" "live_containers_max" "containers" "The most containers at once."
        |past, bucket| Some(most_alive(&past.tasks, bucket));
    "containers" "started_containers_count" "containers" "Containers that were begun."
        |past, bucket| Some(bucket.count(past.tasks.iter().map(|it| it.enqueued_at)));
    "containers" "startup_time_avg" "seconds" "How long containers that were begun took until they were ready."
        |past, bucket| startup(&past.tasks, bucket);
};

/// The series of servers, group by group.
pub(crate) const OF_SERVERS: &[Series<ServerPast>] = series! {
    "requests" "requests_count" "requests" "Requests that came."
        |past, bucket| Some(bucket.count(past.requests.iter().map(|it| it.at)));
    "requests" "requests_2xx_count" "requests" "Requests that were answered with a status of 200 to 299."
        |past, bucket| Some(answered(past, bucket, 2));
    "requests" "requests_4xx_count" "requests" "Requests that were answered with a status of 400 to 499."
        |past, bucket| Some(answered(past, bucket, 4));
    "requests" "requests_5xx_count" "requests" "Requests that were answered with a status of 500 to 599."
        |past, bucket| Some(answered(past, bucket, 5));
    "requests" "request_latency_avg" "seconds" "How long requests took until the last byte of the answer."
        |past, bucket| average(came(past, bucket).map(|it| it.duration));
    "requests" "request_latency_max" "seconds" "The longest that a request took until the last byte of the answer."
        |past, bucket| came(past, bucket).map(|it| it.duration).reduce(f64::max);
    "containers" "live_containers_max" "containers" "The most containers at once."
        |past, bucket| Some(most_alive(&past.tasks, bucket));
    "containers" "started_containers_count" "containers" "Containers that were begun."
        |past, bucket| Some(bucket.count(past.tasks.iter().map(|it| it.enqueued_at)));
    "containers" "startup_time_avg" "seconds" "How long containers that were begun took until they were ready."
        |past, bucket| startup(&past.tasks, bucket);
};

/// The series of these groups, or all.
pub(crate) fn chosen<T>(
    all: &'static [Series<T>],
    groups: &[String],
) -> Result<Vec<&'static Series<T>>> {
    let unknown: Vec<&str> = groups
        .iter()
        .map(String::as_str)
        .filter(|group| all.iter().all(|series| series.group != *group))
        .collect();
    if !unknown.is_empty() {
        let mut valid: Vec<&str> = all.iter().map(|series| series.group).collect();
        valid.dedup();
        return Err(Error::invalid(format!(
            "Invalid metrics groups: {}. Valid groups: {}",
            unknown.join(", "),
            valid.join(", ")
        )));
    }
    let wanted =
        |series: &&Series<T>| groups.is_empty() || groups.iter().any(|it| it == series.group);
    Ok(all.iter().filter(wanted).collect())
}

/// Buckets of one width that begin at multiples of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buckets {
    /// Seconds since 1970.
    pub(crate) start: u64,
    /// In seconds.
    pub(crate) width: u32,
    pub(crate) count: u64,
}

impl Buckets {
    /// Those between two times in seconds since 1970; the last, which is not over, is left out.
    pub(crate) fn new(since: f64, until: f64, width: Option<u32>) -> Result<Self> {
        let number = |width: u32| {
            (until.max(0.0) as u64 / u64::from(width))
                .saturating_sub(since.max(0.0) as u64 / u64::from(width))
        };
        let width = match width {
            Some(width) if width < WIDTHS[0] => {
                return Err(Error::invalid("a bucket has at least 60 seconds"));
            }
            Some(width) => width,
            None => WIDTHS.into_iter().find(|it| number(*it) <= CHOSEN_POINTS).unwrap_or(WIDTHS[6]),
        };
        let count = number(width);
        if count > MOST_POINTS {
            return Err(Error::invalid(format!(
                "more than {MOST_POINTS} points: use larger buckets"
            )));
        }
        let start = since.max(0.0) as u64 / u64::from(width) * u64::from(width);
        Ok(Self { start, width, count })
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Bucket> {
        let at = move |number: u64| (self.start + number * u64::from(self.width)) as f64;
        (0..self.count).map(move |number| Bucket { start: at(number), end: at(number + 1) })
    }

    /// From the beginning of the first to the end of the last.
    pub(crate) fn span(self) -> Bucket {
        let end = self.start + self.count * u64::from(self.width);
        Bucket { start: self.start as f64, end: end as f64 }
    }
}

impl Bucket {
    fn has(self, at: f64) -> bool {
        at >= self.start && at < self.end
    }

    fn count(self, times: impl Iterator<Item = f64>) -> f64 {
        times.filter(|at| self.has(*at)).count() as f64
    }
}

fn finished(past: &FunctionPast, bucket: Bucket) -> impl Iterator<Item = &PastInput> {
    past.inputs.iter().filter(move |it| it.finished_at.is_some_and(|at| bucket.has(at)))
}

fn ended(past: &FunctionPast, bucket: Bucket, how: Ended) -> f64 {
    finished(past, bucket).filter(|it| Ended::of(it.status) == how).count() as f64
}

fn came(past: &ServerPast, bucket: Bucket) -> impl Iterator<Item = &RequestRecord> {
    past.requests.iter().filter(move |it| bucket.has(it.at))
}

/// Of the statuses with this first digit.
fn answered(past: &ServerPast, bucket: Bucket, digit: u16) -> f64 {
    came(past, bucket).filter(|it| it.status / 100 == digit).count() as f64
}

fn startup(tasks: &[PastTask], bucket: Bucket) -> Option<f64> {
    let begun = tasks.iter().filter(|it| bucket.has(it.enqueued_at));
    average(begun.filter_map(|it| Some(it.started_at? - it.enqueued_at)))
}

fn average(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// The most that were alive at one moment of the bucket.
fn most_alive(tasks: &[PastTask], bucket: Bucket) -> f64 {
    let is_in = |it: &&PastTask| {
        it.enqueued_at < bucket.end && it.finished_at.is_none_or(|end| end > bucket.start)
    };
    let begun = tasks.iter().filter(is_in).map(|it| (it.enqueued_at.max(bucket.start), 1));
    let ended = tasks.iter().filter(is_in).filter_map(|it| Some((it.finished_at?, -1)));
    let mut changes: Vec<(f64, i32)> = begun.chain(ended).collect();
    // Who ends at a moment makes room for who begins then.
    changes
        .sort_by(|(at, change), (other_at, other)| at.total_cmp(other_at).then(change.cmp(other)));
    let alive = changes.iter().scan(0, |alive, (_, change)| {
        *alive += change;
        Some(*alive)
    });
    f64::from(alive.max().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use modal_proto::client::generic_result::GenericStatus;

    use super::*;

    fn input(created_at: f64, finished_at: f64, status: GenericStatus) -> PastInput {
        PastInput {
            call_id: String::new(),
            task_id: String::new(),
            status: Some(status.into()),
            created_at,
            started_at: Some(created_at + 1.0),
            finished_at: Some(finished_at),
            enqueued_at: None,
            ready_at: None,
        }
    }

    fn task(enqueued_at: f64, finished_at: Option<f64>) -> PastTask {
        PastTask {
            task_id: String::new(),
            enqueued_at,
            started_at: Some(enqueued_at + 2.0),
            finished_at,
            status: None,
        }
    }

    #[test]
    fn buckets_begin_at_multiples_of_their_width() {
        let buckets = Buckets::new(1_800_000_030.0, 1_800_000_150.0, Some(60)).unwrap();
        assert_eq!((buckets.start, buckets.width, buckets.count), (1_800_000_000, 60, 2));
        assert_eq!(Buckets::new(30.0, 59.0, None).unwrap().count, 0);
        assert_eq!(Buckets::new(0.0, 31.0 * 86_400.0, None).unwrap().width, 28_800);
        Buckets::new(0.0, 86_400.0, Some(60)).unwrap_err();
        Buckets::new(0.0, 86_400.0, Some(59)).unwrap_err();
    }

    #[test]
    fn a_bucket_counts_what_happened_in_it() {
        let past = FunctionPast {
            inputs: vec![
                input(10.0, 20.0, GenericStatus::Success),
                input(50.0, 61.0, GenericStatus::Timeout),
            ],
            tasks: vec![task(0.0, Some(30.0)), task(20.0, None), task(40.0, None)],
        };
        let value = |name: &str, bucket| {
            let series = OF_FUNCTIONS.iter().find(|it| it.name == name).unwrap();
            (series.value)(&past, bucket)
        };
        let (first, second) =
            (Bucket { start: 0.0, end: 60.0 }, Bucket { start: 60.0, end: 120.0 });
        assert_eq!(value("enqueued_calls_count", first), Some(2.0));
        assert_eq!(value("timed_out_calls_count", second), Some(1.0));
        assert_eq!(value("execution_time_avg", first), Some(9.0));
        assert_eq!(value("startup_time_avg", second), None);
        assert_eq!(value("live_containers_max", first), Some(2.0));
        assert_eq!(value("live_containers_max", second), Some(2.0));
    }

    #[test]
    fn an_unknown_group_is_refused_with_those_there_are() {
        let refused = chosen(OF_SERVERS, &["calls".to_owned()]).err().unwrap().to_string();
        assert_eq!(refused, "Invalid metrics groups: calls. Valid groups: requests, containers");
        assert_eq!(chosen(OF_SERVERS, &["containers".to_owned()]).unwrap().len(), 3);
    }
}
