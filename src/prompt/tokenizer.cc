#include "prompt/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "warmpath_rust.h"

namespace warmpath::prompt {
namespace {

// A buffer of the Rust library, freed on scope exit.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { wp_buffer_free(&raw_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  wp_buffer* out() { return &raw_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(raw_.data), raw_.size}; }
  template <typename T>
  std::vector<T> items() const {
    std::vector<T> items(raw_.size / sizeof(T));
    if (!items.empty()) std::memcpy(items.data(), raw_.data, raw_.size);
    return items;
  }

 private:
  wp_buffer raw_{.data = nullptr, .size = 0, .capacity = 0, .align = 1};
};

const uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

Tokenizer::ContentRules RulesOf(const wp_info& info) {
  Tokenizer::ContentRules rules;
  rules.opaque = info.opaque_contents != 0;
  rules.reason = View(info.not_opaque_reason, info.not_opaque_reason_size);
  std::string_view rest = View(info.content_marks, info.content_marks_size);
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    rules.marks.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return rules;
}

tl::unexpected<Error> Failed(int32_t code, const Buffer& error) {
  const Code mapped = code == WP_INVALID       ? Code::kInvalidArgument
                      : code == WP_UNSUPPORTED ? Code::kUnsupported
                                               : Code::kInternal;
  return Fail(mapped, std::string(error.text()));
}

}  // namespace

struct Tokenizer::Impl {
  wp_model* model = nullptr;
  wp_info info{};
  ContentRules rules;

  Impl() = default;
  ~Impl() { wp_model_close(model); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::shared_ptr<const Tokenizer>> Tokenizer::Load(const std::string& dir) {
  auto impl = std::make_unique<Impl>();
  Buffer error;
  if (const int32_t code = wp_model_open(Bytes(dir), dir.size(), &impl->model, error.out())) {
    return Failed(code, error);
  }
  wp_model_info(impl->model, &impl->info);
  impl->rules = RulesOf(impl->info);
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
}

Result<std::vector<kv::TokenId>> Tokenizer::Encode(std::string_view text,
                                                   bool add_special_tokens) const {
  Buffer ids;
  if (const int32_t code =
          wp_encode(impl_->model, Bytes(text), text.size(), add_special_tokens, ids.out())) {
    return Failed(code, ids);
  }
  return ids.items<kv::TokenId>();
}

Result<std::string> Tokenizer::Decode(std::span<const kv::TokenId> ids,
                                      bool skip_special_tokens) const {
  Buffer text;
  if (const int32_t code =
          wp_decode(impl_->model, ids.data(), ids.size(), skip_special_tokens, text.out())) {
    return Failed(code, text);
  }
  return std::string(text.text());
}

Result<std::string> Tokenizer::RenderChat(std::string_view context_json, int64_t now) const {
  Buffer text;
  if (const int32_t code =
          wp_render(impl_->model, Bytes(context_json), context_json.size(), now, text.out())) {
    return Failed(code, text);
  }
  return std::string(text.text());
}

Result<Tokenizer::ChatText> Tokenizer::RenderChatBody(std::string_view body, int64_t now) const {
  Buffer text;
  wp_chat_options options{};
  if (const int32_t code =
          wp_chat(impl_->model, Bytes(body), body.size(), now, text.out(), &options)) {
    return Failed(code, text);
  }
  return ChatText{.text = std::string(text.text()),
                  .add_special_tokens = options.add_special_tokens,
                  .truncate_to = options.truncate_to};
}

Result<std::vector<uint64_t>> Tokenizer::CutPoints(std::string_view text, size_t min_bytes) const {
  if (impl_->info.can_cut == 0) return std::vector<uint64_t>{};
  Buffer ends;
  if (const int32_t code = wp_cuts(impl_->model, Bytes(text), text.size(), min_bytes, ends.out())) {
    return Failed(code, ends);
  }
  return ends.items<uint64_t>();
}

const Tokenizer::ContentRules& Tokenizer::content_rules() const {
  return impl_->rules;
}

bool Tokenizer::cuts_between_words() const {
  return impl_->info.cuts_between_words != 0;
}

bool Tokenizer::has_chat_template() const {
  return impl_->info.chat_template_size > 0;
}

std::string_view Tokenizer::chat_template() const {
  return View(impl_->info.chat_template, impl_->info.chat_template_size);
}

std::string_view Tokenizer::backend() const {
  return View(impl_->info.backend, impl_->info.backend_size);
}

uint32_t Tokenizer::vocab_size() const {
  return impl_->info.vocab_size;
}

std::string_view Tokenizer::fallback_reason() const {
  return View(impl_->info.fallback_reason, impl_->info.fallback_reason_size);
}

}  // namespace warmpath::prompt
