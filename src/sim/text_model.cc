#include "sim/text_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/hash.h"
#include "codec/json.h"
#include "prompt/encoder.h"
#include "prompt/shared_tokenizer.h"
#include "prompt/tokenizer.h"

namespace warmpath::sim {
namespace {

using codec::Json;

constexpr size_t kOutputWords = 512;

// Every word starts with a space; none is a prefix of another.
constexpr std::array kWords = {
    " amber",   " anchor",  " autumn",   " basket",  " beacon",  " bridge",  " bright",  " butter",
    " candle",  " canyon",  " carpet",   " cedar",   " circle",  " cloud",   " copper",  " corner",
    " cotton",  " crystal", " desert",   " dragon",  " dream",   " early",   " earth",   " echo",
    " ember",   " evening", " falcon",   " feather", " fern",    " field",   " forest",  " garden",
    " gentle",  " glacier", " golden",   " granite", " harbor",  " hazel",   " hollow",  " honey",
    " horizon", " island",  " ivory",    " jasmine", " journey", " kettle",  " kitchen", " lantern",
    " laurel",  " lemon",   " letter",   " little",  " maple",   " marble",  " meadow",  " mellow",
    " mirror",  " morning", " mountain", " music",   " narrow",  " needle",  " north",   " ocean",
    " olive",   " orange",  " orbit",    " orchard", " paper",   " pebble",  " pepper",  " pillow",
    " planet",  " pocket",  " prairie",  " quiet",   " ribbon",  " river",   " rocket",  " saffron",
    " sailor",  " shadow",  " signal",   " silver",  " simple",  " slowly",  " spring",  " station",
    " stone",   " summer",  " sunset",   " table",   " thunder", " timber",  " travel",  " valley",
    " velvet",  " village", " violet",   " walnut",  " water",   " whisper", " willow",  " window",
    " winter",  " wonder",  " yellow",   " zephyr"};
constexpr uint32_t kFirstWord = 256;

bool IsPlainWord(std::string_view text) {
  return text.size() >= 4 && text.size() <= 9 && text[0] == ' ' &&
         std::ranges::all_of(text.substr(1), [](char c) { return c >= 'a' && c <= 'z'; });
}

class BuiltinText final : public TextModel {
 public:
  BuiltinText() {
    for (uint32_t i = 0; i < kWords.size(); ++i) output_words_.push_back(kFirstWord + i);
  }

  Result<std::vector<Tokens>> Encode(prompt::Api api, std::string_view body) const override {
    WP_TRY(const Json json, codec::ParseJson(body));
    std::vector<Tokens> prompts;
    if (api == prompt::Api::kChatCompletions) {
      WP_TRY(const std::string text, RenderChat(json));
      prompts.push_back(Cut(text));
      return prompts;
    }
    const Json* prompt = codec::Find(json, "prompt");
    if (prompt == nullptr) return Fail(Code::kInvalidArgument, "no prompt");
    if (prompt->is_string()) {
      prompts.push_back(Cut(prompt->get_string()));
      return prompts;
    }
    if (!prompt->is_array()) return Fail(Code::kInvalidArgument, "prompt has the wrong type");
    const auto& list = prompt->get_array();
    if (!list.empty() && list[0].is_number()) {
      WP_TRY(Tokens ids, ReadIds(*prompt));
      prompts.push_back(std::move(ids));
      return prompts;
    }
    for (const Json& one : list) {
      if (one.is_string()) {
        prompts.push_back(Cut(one.get_string()));
      } else {
        WP_TRY(Tokens ids, ReadIds(one));
        prompts.push_back(std::move(ids));
      }
    }
    return prompts;
  }

  Result<Tokens> EncodeText(std::string_view text, bool) const override { return Cut(text); }

  std::string Decode(std::span<const kv::TokenId> ids) const override {
    std::string text;
    for (kv::TokenId id : ids) {
      if (id < kFirstWord) {
        text.push_back(static_cast<char>(id));
      } else if (id - kFirstWord < kWords.size()) {
        text += kWords[id - kFirstWord];
      }
    }
    return text;
  }

  uint32_t vocab_size() const override { return kFirstWord + static_cast<uint32_t>(kWords.size()); }

 private:
  static Tokens Cut(std::string_view text) {
    Tokens ids;
    while (!text.empty()) {
      size_t length = 1;
      kv::TokenId id = static_cast<uint8_t>(text[0]);
      if (text[0] == ' ') {
        for (size_t i = 0; i < kWords.size(); ++i) {
          if (text.starts_with(kWords[i])) {
            length = std::string_view(kWords[i]).size();
            id = kFirstWord + static_cast<uint32_t>(i);
            break;
          }
        }
      }
      ids.push_back(id);
      text.remove_prefix(length);
    }
    return ids;
  }

  static Result<Tokens> ReadIds(const Json& list) {
    if (!list.is_array()) return Fail(Code::kInvalidArgument, "prompt has the wrong type");
    Tokens ids;
    for (const Json& id : list.get_array()) {
      if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > UINT32_MAX) {
        return Fail(Code::kInvalidArgument, "prompt has an element that is no token id");
      }
      ids.push_back(static_cast<kv::TokenId>(id.get_int64()));
    }
    return ids;
  }

  static Result<std::string> RenderChat(const Json& body) {
    const Json* messages = codec::Find(body, "messages");
    if (messages == nullptr || !messages->is_array())
      return Fail(Code::kInvalidArgument, "no messages");
    std::string text;
    for (const Json& message : messages->get_array()) {
      text += codec::FindString(message, "role").value_or("user");
      text += ":";
      const Json* content = codec::Find(message, "content");
      if (content != nullptr && content->is_string()) {
        text += " ";
        text += std::string_view(content->get_string());
      } else if (content != nullptr && content->is_array()) {
        for (const Json& part : content->get_array()) {
          const auto type = codec::FindString(part, "type");
          if (type && *type != "text") return Fail(Code::kUnsupported, "not a multimodal model");
          text += " ";
          text += codec::FindString(part, "text").value_or("");
        }
      }
      text += "\n";
    }
    if (codec::FindBool(body, "add_generation_prompt").value_or(true)) text += "assistant:";
    return text;
  }
};

class ExactText final : public TextModel {
 public:
  static Result<std::shared_ptr<const TextModel>> Make(const std::string& where) {
    WP_TRY(const std::string directory, prompt::FindTokenizerDirectory(where));
    WP_TRY(auto tokenizer, prompt::LoadSharedTokenizer(directory));
    auto model = std::make_shared<ExactText>(tokenizer);
    for (kv::TokenId id = 0;
         id < tokenizer->vocab_size() && model->output_words_.size() < kOutputWords; ++id) {
      auto text = tokenizer->Decode(std::span(&id, 1), true);
      if (!text || !IsPlainWord(*text)) continue;
      // It must read back as the same id, so that an answer sent again as history finds its blocks.
      auto again = tokenizer->Encode(*text, false);
      if (again && *again == Tokens{id}) model->output_words_.push_back(id);
    }
    if (model->output_words_.empty()) model->FillWithWordStarts();
    if (model->output_words_.empty()) {
      return Fail(Code::kUnsupported, fmt::format("tokenizer {} has no plain words", directory));
    }
    return model;
  }

  explicit ExactText(const std::shared_ptr<const prompt::Tokenizer>& tokenizer)
      : tokenizer_(tokenizer), encoder_(tokenizer, {}) {}

  Result<std::vector<Tokens>> Encode(prompt::Api api, std::string_view body) const override {
    WP_TRY(auto encoded, encoder_.Encode(api, body));
    std::vector<Tokens> prompts;
    for (auto& prompt : encoded) prompts.push_back(prompt.ids());
    return prompts;
  }
  Result<Tokens> EncodeText(std::string_view text, bool add_special_tokens) const override {
    return tokenizer_->Encode(text, add_special_tokens);
  }
  std::string Decode(std::span<const kv::TokenId> ids) const override {
    return tokenizer_->Decode(ids, true).value_or("");
  }
  uint32_t vocab_size() const override { return tokenizer_->vocab_size(); }

 private:
  // Tokenizers that strip the leading space of a lone piece: words that decode plainly after
  // another one.
  void FillWithWordStarts() {
    for (kv::TokenId id = 0; id < tokenizer_->vocab_size() && output_words_.size() < kOutputWords;
         ++id) {
      const std::array pair = {id, id};
      auto text = tokenizer_->Decode(pair, true);
      if (!text) continue;
      const size_t half = text->size() / 2;
      if (text->size() % 2 == 1 && IsPlainWord(std::string_view(*text).substr(half)))
        output_words_.push_back(id);
    }
  }

  std::shared_ptr<const prompt::Tokenizer> tokenizer_;
  prompt::Encoder encoder_;
};

uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

Result<std::shared_ptr<const TextModel>> TextModel::Load(const std::string& tokenizer) {
  if (!tokenizer.empty()) return ExactText::Make(tokenizer);
  return std::make_shared<BuiltinText>();
}

uint64_t TextModel::OutputKey(uint64_t seed, std::span<const kv::TokenId> prompt, uint32_t choice) {
  return Mix(Xxh3(std::as_bytes(prompt), seed) + choice);
}

kv::TokenId TextModel::OutputToken(uint64_t key, uint32_t index) const {
  return output_words_[Mix(key ^ Mix(index)) % output_words_.size()];
}

}  // namespace warmpath::sim
