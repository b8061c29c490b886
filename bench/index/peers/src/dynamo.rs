//! Dynamo's ConcurrentRadixTreeCompressed behind its own worker loop, on one thread: a batch of events lies in the channel before
//! the loop may begin, and what is timed is the loop, with the receipt and the release of every event.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use dynamo_kv_router::indexer::{SyncIndexer, WorkerTask};
use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, LocalBlockHash, RouterEvent,
};
use dynamo_kv_router::ConcurrentRadixTreeCompressed;
use tokio::sync::oneshot;

use crate::corpus::Corpus;
use crate::{alloc, cpu_seconds, Applied, Peer};

#[derive(Default)]
struct Mark {
    open: bool,
    passed: bool,
    cpu: f64,
    live: i64,
}

/// Woken from inside the loop when it reaches a Flush: waits until it is open, then notes time and memory.
#[derive(Default)]
struct Gate {
    mark: Mutex<Mark>,
    changed: Condvar,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        let mark = self.mark.lock().unwrap();
        let mut mark = self.changed.wait_while(mark, |m| !m.open).unwrap();
        mark.passed = true;
        mark.live = alloc::live();
        mark.cpu = cpu_seconds();
        drop(mark);
        self.changed.notify_all();
    }
}

impl Gate {
    fn open(&self) {
        self.mark.lock().unwrap().open = true;
        self.changed.notify_all();
    }
    fn wait(&self) -> (f64, i64) {
        let mark = self.mark.lock().unwrap();
        let mark = self.changed.wait_while(mark, |m| !m.passed).unwrap();
        (mark.cpu, mark.live)
    }
}

pub struct Dynamo {
    index: Arc<ConcurrentRadixTreeCompressed>,
    tasks: flume::Sender<WorkerTask>,
    bytes: i64,
}

impl Dynamo {
    pub fn new() -> Dynamo {
        let index = Arc::new(ConcurrentRadixTreeCompressed::new());
        let (tasks, receiver) = flume::unbounded();
        let worker = index.clone();
        std::thread::spawn(move || worker.worker(receiver, None));
        Dynamo { index, tasks, bytes: 0 }
    }

    /// Applies the events; `payload` is what they hold in the heap beyond their own size.
    fn apply(&mut self, events: Vec<WorkerTask>, payload: i64) -> f64 {
        let (begin, end) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        end.open();
        let (begin_sender, begin_receiver) = oneshot::channel();
        let (end_sender, end_receiver) = oneshot::channel();
        let (mut begin_receiver, mut end_receiver) = (pin!(begin_receiver), pin!(end_receiver));
        for (gate, receiver) in [(&begin, &mut begin_receiver), (&end, &mut end_receiver)] {
            let waker = Waker::from(gate.clone());
            let _ = receiver.as_mut().poll(&mut Context::from_waker(&waker));
        }
        self.send(WorkerTask::Flush(begin_sender));
        events.into_iter().for_each(|event| self.send(event));
        self.send(WorkerTask::Flush(end_sender));
        begin.open();
        let (begin_cpu, begin_live) = begin.wait();
        let (end_cpu, end_live) = end.wait();
        self.bytes += end_live - (begin_live - payload);
        end_cpu - begin_cpu
    }

    fn send(&self, task: WorkerTask) {
        self.tasks.send(task).expect("the worker loop ended early");
    }

    fn build(events: impl Iterator<Item = (u32, KvCacheEventData)>) -> (Vec<WorkerTask>, i64) {
        let mut tasks = Vec::with_capacity(1 << 18);
        let before = alloc::live();
        for (number, (endpoint, data)) in events.enumerate() {
            let event = KvCacheEvent { event_id: number as u64, data, dp_rank: 0 };
            assert!(tasks.len() < tasks.capacity());
            tasks.push(WorkerTask::Event(RouterEvent::new(endpoint as u64, event)));
        }
        let payload = alloc::live() - before;
        (tasks, payload)
    }
}

impl Peer for Dynamo {
    fn store(&mut self, corpus: &Corpus, set: u32) -> Applied {
        let mut blocks = 0;
        let events = corpus.events().iter().filter(|e| e.set == set).map(|e| {
            blocks += e.count as u64;
            let names = corpus.hashes(e).iter().zip(corpus.contents(e));
            let stored = names.map(|(h, c)| KvCacheStoredBlockData {
                block_hash: ExternalSequenceBlockHash(*h),
                tokens_hash: LocalBlockHash(*c),
                mm_extra_info: None,
            });
            let data = KvCacheStoreData {
                parent_hash: (e.has_parent != 0).then_some(ExternalSequenceBlockHash(e.parent)),
                start_position: None,
                blocks: stored.collect(),
            };
            (e.endpoint, KvCacheEventData::Stored(data))
        });
        let (tasks, payload) = Self::build(events);
        Applied { cpu: self.apply(tasks, payload), blocks, failed: 0 }
    }

    fn remove(&mut self, corpus: &Corpus) -> Applied {
        let mut blocks = 0;
        let events = corpus.removals().iter().map(|i| {
            let e = &corpus.events()[*i as usize];
            blocks += e.count as u64;
            let hashes = corpus.hashes(e).iter().rev().map(|h| ExternalSequenceBlockHash(*h));
            (
                e.endpoint,
                KvCacheEventData::Removed(KvCacheRemoveData { block_hashes: hashes.collect() }),
            )
        });
        let (tasks, payload) = Self::build(events);
        Applied { cpu: self.apply(tasks, payload), blocks, failed: 0 }
    }

    fn clear(&mut self, endpoint: usize) -> f64 {
        let (tasks, payload) =
            Self::build(std::iter::once((endpoint as u32, KvCacheEventData::Cleared)));
        self.apply(tasks, payload)
    }

    fn lookup(&self, contents: &[u64], out: &mut Vec<(u32, u32)>) -> u64 {
        let contents: Vec<LocalBlockHash> = contents.iter().map(|c| LocalBlockHash(*c)).collect();
        let start = Instant::now();
        let found = self.index.find_matches(&contents, false);
        let nanos = start.elapsed().as_nanos() as u64;
        out.clear();
        out.extend(found.scores.iter().map(|(worker, score)| (worker.worker_id as u32, *score)));
        nanos
    }

    fn bytes(&self) -> i64 {
        self.bytes
    }
}
