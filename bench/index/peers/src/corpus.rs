//! The benchmark's corpus file, mapped (its format: bench/index/corpus.h).

use std::fs::File;
use std::os::fd::AsRawFd;

const MAGIC: u64 = 0x3130_5844_4950_5721;
pub const QUERY_SETS: [&str; 4] = ["q64", "q512", "q6250", "qtrace"];

#[repr(C)]
pub struct Event {
    pub endpoint: u32,
    pub set: u32,
    pub begin: u64,
    pub count: u32,
    pub has_parent: u32,
    pub parent: u64,
}

#[repr(C)]
pub struct Query {
    pub set: u32,
    pub count: u32,
    pub begin: u64,
}

#[repr(C)]
struct Section {
    offset: u64,
    count: u64,
}

#[repr(C)]
struct Header {
    magic: u64,
    endpoints: u64,
    _synthetic: u64,
    _distinct_t: u64,
    _root_key: u64,
    // hashes, keys, contents, events, removals, queries, query keys, query contents
    sections: [Section; 8],
}

pub struct Corpus {
    base: *const u8,
}

impl Corpus {
    pub fn open(path: &str) -> Result<Corpus, String> {
        let file = File::open(path).map_err(|e| format!("{path}: {e}"))?;
        let size = file.metadata().map_err(|e| format!("{path}: {e}"))?.len() as usize;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ, flags, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED || size < size_of::<Header>() {
            return Err(format!("{path}: cannot be mapped"));
        }
        let corpus = Corpus { base: base as *const u8 };
        if corpus.header().magic != MAGIC {
            return Err(format!("{path} is not a corpus of this version"));
        }
        Ok(corpus)
    }

    fn header(&self) -> &Header {
        unsafe { &*(self.base as *const Header) }
    }

    fn section<T>(&self, number: usize) -> &[T] {
        let section = &self.header().sections[number];
        unsafe {
            let at = self.base.add(section.offset as usize) as *const T;
            std::slice::from_raw_parts(at, section.count as usize)
        }
    }

    pub fn endpoints(&self) -> usize {
        self.header().endpoints as usize
    }
    pub fn events(&self) -> &[Event] {
        self.section(3)
    }
    pub fn removals(&self) -> &[u64] {
        self.section(4)
    }
    pub fn queries(&self) -> &[Query] {
        self.section(5)
    }
    pub fn hashes(&self, event: &Event) -> &[u64] {
        &self.section(0)[event.begin as usize..][..event.count as usize]
    }
    pub fn contents(&self, event: &Event) -> &[u64] {
        &self.section(2)[event.begin as usize..][..event.count as usize]
    }
    pub fn query_contents(&self, query: &Query) -> &[u64] {
        &self.section(7)[query.begin as usize..][..query.count as usize]
    }
}
