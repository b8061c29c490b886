// C ABI of the Rust library: exact tokenizers and chat templates. Hand written; rust/src/lib.rs is
// the other side.
//
// A model is immutable once open and may be used from any thread at once. Functions that fill a
// wp_buffer return a wp_code: with WP_OK the buffer holds the result, otherwise an error text in
// UTF-8; either way the caller frees it with wp_buffer_free. No function throws, unwinds or aborts
// on bad input. Text inputs need no terminator.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wp_model wp_model;

typedef enum {
  WP_OK = 0,
  WP_INVALID = 1,      // the input is wrong; the engine refuses it too
  WP_UNSUPPORTED = 2,  // nothing can be said exactly about this input
  WP_INTERNAL = 3,     // a library failed or panicked
} wp_code;

typedef struct {
  uint8_t* data;
  size_t size;  // bytes
  size_t capacity;
  size_t align;
} wp_buffer;

// Loads tokenizer.json (required), tokenizer_config.json, chat_template.jinja and
// chat_template.json from a directory, and checks fastokens against Hugging Face tokenizers. About
// a second of CPU. On success `*model` is closed by wp_model_close.
int32_t wp_model_open(const uint8_t* dir, size_t size, wp_model** model, wp_buffer* error);
void wp_model_close(wp_model* model);

// Views that live as long as the model.
typedef struct {
  uint32_t vocab_size;     // every id of the tokenizer is below it
  uint32_t can_cut;        // whether wp_cuts ever returns a cut
  const uint8_t* backend;  // "fastokens" or "tokenizers"
  size_t backend_size;
  const uint8_t* chat_template;  // empty when the model has none
  size_t chat_template_size;
  const uint8_t* fallback_reason;  // why the backend is not fastokens
  size_t fallback_reason_size;
  // Whether texts of messages go through the chat template as they are, if they begin and end with
  // no white space, are not empty and hold none of the marks; one mark a line.
  uint32_t opaque_contents;
  uint32_t cuts_between_words;  // whether text may be cut between a letter and " " with a letter
  const uint8_t* content_marks;
  size_t content_marks_size;
  const uint8_t* not_opaque_reason;
  size_t not_opaque_reason_size;
} wp_info;
void wp_model_info(const wp_model* model, wp_info* info);

// Result: uint32_t ids.
int32_t wp_encode(const wp_model* model, const uint8_t* text, size_t size, bool add_special_tokens,
                  wp_buffer* ids);
// Result: UTF-8. Unknown ids are left out.
int32_t wp_decode(const wp_model* model, const uint32_t* ids, size_t count,
                  bool skip_special_tokens, wp_buffer* text);
// Result: uint64_t byte positions, ascending: ends of leading pieces of at least `min_bytes`, which
// tokenize (without added special tokens) to the same ids one by one as together with the rest.
int32_t wp_cuts(const wp_model* model, const uint8_t* text, size_t size, size_t min_bytes,
                wp_buffer* ends);

// The chat template on a JSON object with messages, tools and all else the template may read.
// `now`: seconds since 1970 for templates that print a date, negative for the system clock. Result:
// text.
int32_t wp_render(const wp_model* model, const uint8_t* context, size_t size, int64_t now,
                  wp_buffer* text);

typedef struct {
  uint64_t truncate_to;  // keep the last so many tokens; 0 keeps all
  bool add_special_tokens;
} wp_chat_options;
// The same for a chat completions body as the client sent it: the engine's normalisation comes
// first.
int32_t wp_chat(const wp_model* model, const uint8_t* body, size_t size, int64_t now,
                wp_buffer* text, wp_chat_options* options);

void wp_buffer_free(wp_buffer* buffer);

#ifdef __cplusplus
}
#endif
