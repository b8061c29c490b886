//! Tokenizers and chat templates behind a small C ABI (include/warmpath_rust.h, which documents each function).
//!
//! A handle is immutable once open and may be used from any thread. No panic crosses: each export runs under catch_unwind.

mod chat;
mod contents;
mod json;
mod python;
mod template;
mod tokens;
mod words;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

const OK: i32 = 0;
const INVALID: i32 = 1;
const UNSUPPORTED: i32 = 2;
const INTERNAL: i32 = 3;

/// Why something could not be done; `code` is one of the codes above.
#[derive(Debug)]
pub struct Failure {
    code: i32,
    message: String,
}

impl Failure {
    pub fn invalid(message: String) -> Failure {
        Failure { code: INVALID, message }
    }
    pub fn unsupported(message: String) -> Failure {
        Failure { code: UNSUPPORTED, message }
    }
    pub fn internal(message: String) -> Failure {
        Failure { code: INTERNAL, message }
    }
    pub fn code(&self) -> i32 {
        self.code
    }
    pub fn is_unsupported(&self) -> bool {
        self.code == UNSUPPORTED
    }
}

pub struct Model {
    tokens: tokens::Tokens,
    templates: template::Templates,
    rules: contents::Rules,
}

/// Memory owned by the caller until wp_buffer_free; `capacity` and `align` are what it was allocated with.
#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    size: usize,
    capacity: usize,
    align: usize,
}

impl<T> From<Vec<T>> for Buffer {
    fn from(items: Vec<T>) -> Buffer {
        let mut items = std::mem::ManuallyDrop::new(items);
        let unit = std::mem::size_of::<T>();
        Buffer {
            data: items.as_mut_ptr().cast(),
            size: items.len() * unit,
            capacity: items.capacity() * unit,
            align: std::mem::align_of::<T>(),
        }
    }
}

/// Runs `work`, stores its result or its error text in `out`, and turns a panic into INTERNAL.
unsafe fn answer(out: *mut Buffer, work: impl FnOnce() -> Result<Buffer, Failure>) -> i32 {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Failure::internal(format!("panic: {}", text.unwrap_or("unknown"))))
    });
    let (code, buffer) = match result {
        Ok(buffer) => (OK, buffer),
        Err(failure) => (failure.code, failure.message.into_bytes().into()),
    };
    out.write(buffer);
    code
}

unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if size == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}

fn utf8(text: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(text)
        .map_err(|e| Failure::invalid(format!("text is not UTF-8 at byte {}", e.valid_up_to())))
}

fn prepare_process() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Requests run in parallel; one request must not fan out over every core.
        if std::env::var_os("FASTOKENS_BPE_THREADS").is_none() {
            std::env::set_var("FASTOKENS_BPE_THREADS", "1");
        }
        // A caught panic is reported by its error text alone.
        std::panic::set_hook(Box::new(|_| {}));
    });
}

/// # Safety
/// `dir` points to `size` bytes; `model` and `error` are writable.
#[no_mangle]
pub unsafe extern "C" fn wp_model_open(
    dir: *const u8,
    size: usize,
    model: *mut *mut Model,
    error: *mut Buffer,
) -> i32 {
    model.write(std::ptr::null_mut());
    answer(error, || {
        prepare_process();
        let dir = Path::new(utf8(bytes(dir, size))?);
        let templates = template::Templates::load(dir)?;
        let rules = contents::Rules::of(&templates);
        let tokens = tokens::Tokens::load(dir)?;
        model.write(Box::into_raw(Box::new(Model { tokens, templates, rules })));
        Ok(Vec::<u8>::new().into())
    })
}

/// # Safety
/// `model` came from wp_model_open and is not used afterwards.
#[no_mangle]
pub unsafe extern "C" fn wp_model_close(model: *mut Model) {
    if !model.is_null() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(model))));
    }
}

#[repr(C)]
pub struct Info {
    vocab_size: u32,
    can_cut: u32,
    backend: *const u8,
    backend_size: usize,
    chat_template: *const u8,
    chat_template_size: usize,
    fallback_reason: *const u8,
    fallback_reason_size: usize,
    opaque_contents: u32,
    cuts_between_words: u32,
    content_marks: *const u8,
    content_marks_size: usize,
    not_opaque_reason: *const u8,
    not_opaque_reason_size: usize,
}

/// # Safety
/// `model` is open; `info` is writable and its pointers live as long as the model.
#[no_mangle]
pub unsafe extern "C" fn wp_model_info(model: *const Model, info: *mut Info) {
    let model = &*model;
    let (backend, source, reason) =
        (model.tokens.backend(), &model.templates.source, &model.tokens.fallback_reason);
    info.write(Info {
        vocab_size: model.tokens.vocab_size,
        can_cut: model.tokens.can_cut().into(),
        backend: backend.as_ptr(),
        backend_size: backend.len(),
        chat_template: source.as_ptr(),
        chat_template_size: source.len(),
        fallback_reason: reason.as_ptr(),
        fallback_reason_size: reason.len(),
        opaque_contents: model.rules.opaque.into(),
        cuts_between_words: model.tokens.cuts_between_words.into(),
        content_marks: model.rules.marks.as_ptr(),
        content_marks_size: model.rules.marks.len(),
        not_opaque_reason: model.rules.reason.as_ptr(),
        not_opaque_reason_size: model.rules.reason.len(),
    });
}

/// # Safety
/// `text` points to `size` bytes; `ids` is writable.
#[no_mangle]
pub unsafe extern "C" fn wp_encode(
    model: *const Model,
    text: *const u8,
    size: usize,
    add_special_tokens: bool,
    ids: *mut Buffer,
) -> i32 {
    answer(ids, || Ok((*model).tokens.encode(utf8(bytes(text, size))?, add_special_tokens)?.into()))
}

/// # Safety
/// `ids` points to `count` ids; `text` is writable.
#[no_mangle]
pub unsafe extern "C" fn wp_decode(
    model: *const Model,
    ids: *const u32,
    count: usize,
    skip_special_tokens: bool,
    text: *mut Buffer,
) -> i32 {
    answer(text, || {
        let ids = if count == 0 { &[] } else { std::slice::from_raw_parts(ids, count) };
        Ok((*model).tokens.decode(ids, skip_special_tokens)?.into_bytes().into())
    })
}

/// # Safety
/// `text` points to `size` bytes; `ends` is writable.
#[no_mangle]
pub unsafe extern "C" fn wp_cuts(
    model: *const Model,
    text: *const u8,
    size: usize,
    min_bytes: usize,
    ends: *mut Buffer,
) -> i32 {
    answer(ends, || Ok((*model).tokens.cuts(utf8(bytes(text, size))?, min_bytes).into()))
}

/// # Safety
/// `context` points to `size` bytes; `text` is writable.
#[no_mangle]
pub unsafe extern "C" fn wp_render(
    model: *const Model,
    context: *const u8,
    size: usize,
    now: i64,
    text: *mut Buffer,
) -> i32 {
    answer(text, || {
        Ok((*model).templates.render(&json::parse(bytes(context, size))?, now)?.into_bytes().into())
    })
}

#[repr(C)]
pub struct ChatOptions {
    truncate_to: u64,
    add_special_tokens: bool,
}

/// # Safety
/// `body` points to `size` bytes; `text` and `options` are writable.
#[no_mangle]
pub unsafe extern "C" fn wp_chat(
    model: *const Model,
    body: *const u8,
    size: usize,
    now: i64,
    text: *mut Buffer,
    options: *mut ChatOptions,
) -> i32 {
    answer(text, || {
        let rendered = chat::render(&(*model).templates, bytes(body, size), now)?;
        options.write(ChatOptions {
            truncate_to: rendered.truncate_to,
            add_special_tokens: rendered.add_special_tokens,
        });
        Ok(rendered.text.into_bytes().into())
    })
}

/// # Safety
/// `buffer` was filled by a function of this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn wp_buffer_free(buffer: *mut Buffer) {
    let b = std::ptr::replace(
        buffer,
        Buffer { data: std::ptr::null_mut(), size: 0, capacity: 0, align: 1 },
    );
    if b.capacity > 0 && !b.data.is_null() {
        std::alloc::dealloc(
            b.data,
            std::alloc::Layout::from_size_align_unchecked(b.capacity, b.align),
        );
    }
}
