//! The peers' side of ./dev bench index: one published index fed with the benchmark's corpus. Prints one JSON object, with
//! the names index_bench uses.

mod alloc;
mod corpus;
mod dynamo;
mod smg;

use corpus::{Corpus, QUERY_SETS};
use std::fmt::Write;

pub struct Applied {
    pub blocks: u64,
    pub failed: u64,
    pub cpu: f64,
}

pub trait Peer {
    fn store(&mut self, corpus: &Corpus, set: u32) -> Applied;
    fn remove(&mut self, corpus: &Corpus) -> Applied;
    /// CPU seconds.
    fn clear(&mut self, endpoint: usize) -> f64;
    /// (endpoint, blocks) into `out`; returns the nanoseconds of the call itself.
    fn lookup(&self, contents: &[u64], out: &mut Vec<(u32, u32)>) -> u64;
    /// What the index has in the heap.
    fn bytes(&self) -> i64;
}

fn clock(id: libc::clockid_t) -> libc::timespec {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(id, &mut t) };
    t
}

pub fn cpu_seconds() -> f64 {
    let t = clock(libc::CLOCK_PROCESS_CPUTIME_ID);
    t.tv_sec as f64 + 1e-9 * t.tv_nsec as f64
}

pub fn wall_nanos() -> u64 {
    let t = clock(libc::CLOCK_MONOTONIC);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn percentile(values: &mut [u64], p: f64) -> u64 {
    if values.is_empty() {
        return 0;
    }
    values.sort_unstable();
    values[(p * (values.len() - 1) as f64) as usize]
}

/// Asks every query; with `times`, how long the calls of each set took.
fn ask(peer: &dyn Peer, corpus: &Corpus, stage: &str, times: bool, json: &mut String) {
    let mut out = Vec::with_capacity(corpus.endpoints());
    let mut nanos: [Vec<u64>; 4] = Default::default();
    let (mut sums, mut pairs) = ([0u64; 4], 0u64);
    for (number, query) in corpus.queries().iter().enumerate() {
        let contents = corpus.query_contents(query);
        std::hint::black_box(contents.iter().fold(0u64, |sum, c| sum.wrapping_add(*c)));
        nanos[query.set as usize].push(peer.lookup(contents, &mut out));
        for (endpoint, blocks) in out.iter().filter(|(_, blocks)| *blocks > 0) {
            let result = mix(mix(number as u64) ^ mix((*endpoint as u64) << 32) ^ *blocks as u64);
            let sum = &mut sums[query.set as usize];
            *sum = sum.wrapping_add(result);
            pairs += 1;
        }
    }
    for (set, name) in QUERY_SETS.iter().enumerate() {
        if times {
            write!(json, ", \"{name}_p50_ns\": {}", percentile(&mut nanos[set], 0.5)).unwrap();
            write!(json, ", \"{name}_p99_ns\": {}", percentile(&mut nanos[set], 0.99)).unwrap();
        }
        write!(json, ", \"check_{stage}_{name}\": \"{:016x}\"", sums[set]).unwrap();
    }
    write!(json, ", \"check_{stage}_pairs\": {pairs}").unwrap();
}

fn run(name: &str, peer: &mut dyn Peer, corpus: &Corpus) -> String {
    let mut json = format!("{{\"index\": \"{name}\", \"endpoints\": {}", corpus.endpoints());
    let rate = |applied: &Applied| applied.blocks as f64 / applied.cpu / 1e6;
    let t = peer.store(corpus, 0);
    let bytes_t = peer.bytes();
    let l = peer.store(corpus, 1);
    write!(
        json,
        ", \"held_t\": {}, \"held_l\": {}, \"orphans\": {}",
        t.blocks,
        l.blocks,
        t.failed + l.failed
    )
    .unwrap();
    write!(json, ", \"store_new_mps\": {:.4}, \"store_known_mps\": {:.4}", rate(&t), rate(&l))
        .unwrap();
    write!(json, ", \"bytes_t\": {bytes_t}, \"bytes_all\": {}", peer.bytes()).unwrap();
    ask(peer, corpus, "stored", true, &mut json);
    let removed = peer.remove(corpus);
    write!(json, ", \"remove_mps\": {:.4}, \"removed\": {}", rate(&removed), removed.blocks)
        .unwrap();
    ask(peer, corpus, "removed", false, &mut json);
    write!(json, ", \"clear_ms\": {:.4}", peer.clear(0) * 1e3).unwrap();
    ask(peer, corpus, "cleared", false, &mut json);
    json + "}"
}

fn main() {
    let usage = "index-peers smg|dynamo CORPUS";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, path] = arguments.as_slice() else {
        eprintln!("{usage}");
        std::process::exit(2);
    };
    let corpus = Corpus::open(path).unwrap_or_else(|error| {
        eprintln!("index-peers: {error}");
        std::process::exit(2);
    });
    let mut peer: Box<dyn Peer> = match name.as_str() {
        "smg" => Box::new(smg::Smg::new(corpus.endpoints())),
        "dynamo" => Box::new(dynamo::Dynamo::new()),
        _ => {
            eprintln!("{usage}");
            std::process::exit(2);
        }
    };
    println!("{}", run(name, peer.as_mut(), &corpus));
}
