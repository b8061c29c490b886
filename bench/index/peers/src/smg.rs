//! smg's ChainIndex, called directly; it leaves the block maps of the workers to its caller.

use crate::corpus::Corpus;
use crate::{alloc, cpu_seconds, wall_nanos, Applied, Peer};
use kv_index::{ChainBlockMap, ChainIndex, ContentHash, SequenceHash, StoredBlock};

pub struct Smg {
    index: ChainIndex,
    maps: Vec<ChainBlockMap>,
    // The index's id of an endpoint, and back.
    workers: Vec<u32>,
    endpoints: Vec<u32>,
    bytes_before: i64,
}

impl Smg {
    pub fn new(endpoints: usize) -> Smg {
        let bytes_before = alloc::live();
        let index = ChainIndex::with_max_workers(endpoints);
        let name = |e: usize| format!("http://10.0.{}.{}:8000", e / 256, e % 256);
        let workers: Vec<u32> = (0..endpoints)
            .map(|e| index.intern_worker(&name(e)).expect("at most 1,024 endpoints"))
            .collect();
        let mut back = vec![0; workers.iter().max().map_or(0, |m| *m as usize + 1)];
        workers.iter().enumerate().for_each(|(e, w)| back[*w as usize] = e as u32);
        let maps = (0..endpoints).map(|_| ChainBlockMap::new()).collect();
        Smg { index, maps, workers, endpoints: back, bytes_before }
    }
}

impl Peer for Smg {
    fn store(&mut self, corpus: &Corpus, set: u32) -> Applied {
        let mut blocks = 0;
        let events: Vec<_> = (corpus.events().iter().filter(|e| e.set == set))
            .map(|e| {
                let names = corpus.hashes(e).iter().zip(corpus.contents(e));
                let stored: Vec<StoredBlock> = names
                    .map(|(h, c)| StoredBlock {
                        seq_hash: SequenceHash(*h),
                        content_hash: ContentHash(*c),
                    })
                    .collect();
                blocks += stored.len() as u64;
                (e.endpoint as usize, (e.has_parent != 0).then_some(SequenceHash(e.parent)), stored)
            })
            .collect();
        let start = cpu_seconds();
        let mut failed = 0;
        for (endpoint, parent, stored) in &events {
            let map = &mut self.maps[*endpoint];
            failed +=
                self.index.apply_stored(self.workers[*endpoint], stored, *parent, map).is_err()
                    as u64;
        }
        let cpu = cpu_seconds() - start;
        drop(events);
        Applied { blocks, failed, cpu }
    }

    fn remove(&mut self, corpus: &Corpus) -> Applied {
        let mut blocks = 0;
        let events: Vec<_> = (corpus.removals().iter())
            .map(|i| {
                let e = &corpus.events()[*i as usize];
                let hashes: Vec<SequenceHash> =
                    corpus.hashes(e).iter().rev().map(|h| SequenceHash(*h)).collect();
                blocks += hashes.len() as u64;
                (e.endpoint as usize, hashes)
            })
            .collect();
        let start = cpu_seconds();
        for (endpoint, hashes) in &events {
            self.index.apply_removed(self.workers[*endpoint], hashes, &mut self.maps[*endpoint]);
        }
        Applied { blocks, failed: 0, cpu: cpu_seconds() - start }
    }

    fn clear(&mut self, endpoint: usize) -> f64 {
        let start = cpu_seconds();
        self.index.apply_cleared(self.workers[endpoint], &mut self.maps[endpoint]);
        cpu_seconds() - start
    }

    fn lookup(&self, contents: &[u64], out: &mut Vec<(u32, u32)>) -> u64 {
        out.clear();
        let start = wall_nanos();
        self.index.score_into(contents, |c| *c, false, |worker, score| out.push((worker, score)));
        let nanos = wall_nanos() - start;
        out.iter_mut().for_each(|(worker, _)| *worker = self.endpoints[*worker as usize]);
        nanos
    }

    fn bytes(&self) -> i64 {
        alloc::live() - self.bytes_before
    }
}
