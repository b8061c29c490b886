// For tests and fuzzing: a complete tokenizer small enough to write down. One token per byte, and
// the special tokens <s>, </s>, <turn> and <end>; a chat template that prints roles and contents.
#pragma once

#include <fmt/core.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "prompt/tokenizer.h"

namespace warmpath::prompt {

inline constexpr uint32_t kTinyBos = 256;
inline constexpr uint32_t kTinyVocab = 260;

inline void AppendUtf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else {
    out += static_cast<char>(0xC0 | (code >> 6));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

// `added` is the list of added tokens, `pre_tokenizer` and `post_processor` are JSON.
inline std::string TinyTokenizerJson(
    const std::string& added_options = R"("lstrip":false,"rstrip":false,"single_word":false)") {
  std::string vocab;
  uint32_t moved = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    // The byte-level alphabet: printable Latin-1 stands for itself, the rest is moved behind it.
    const bool printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    std::string key;
    AppendUtf8(key, printable ? byte : moved++);
    if (key == "\"" || key == "\\") key.insert(0, 1, '\\');
    vocab += fmt::format("{}\"{}\":{}", vocab.empty() ? "" : ",", key, byte);
  }
  std::string added;
  uint32_t id = 256;
  for (const char* token : {"<s>", "</s>", "<turn>", "<end>"}) {
    added += fmt::format(R"({}{{"id":{},"content":"{}",{},"normalized":false,"special":true}})",
                         added.empty() ? "" : ",", id++, token, added_options);
  }
  return fmt::format(
      R"({{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{}],"normalizer":null,)"
      R"("pre_tokenizer":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}},)"
      R"("post_processor":{{"type":"TemplateProcessing","single":[{{"SpecialToken":{{"id":"<s>","type_id":0}}}},)"
      R"({{"Sequence":{{"id":"A","type_id":0}}}}],"pair":[{{"Sequence":{{"id":"A","type_id":0}}}},)"
      R"({{"Sequence":{{"id":"B","type_id":1}}}}],"special_tokens":{{"<s>":{{"id":"<s>","ids":[256],"tokens":["<s>"]}}}}}},)"
      R"("decoder":{{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}},)"
      R"("model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,)"
      R"("end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"vocab":{{{}}},"merges":[]}}}})",
      added, vocab);
}

inline constexpr const char* kTinyTemplate =
    "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}: {{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant: {% endif %}";

// Writes a tokenizer directory; an empty template leaves the model without one.
inline void WriteTinyTokenizer(const std::filesystem::path& dir,
                               const std::string& chat_template = kTinyTemplate,
                               const std::string& tokenizer_json = TinyTokenizerJson()) {
  std::filesystem::create_directories(dir);
  std::ofstream(dir / "tokenizer.json") << tokenizer_json;
  std::ofstream(dir / "tokenizer_config.json")
      << R"({"bos_token":"<s>","eos_token":{"content":"</s>"}})";
  std::filesystem::remove(dir / "chat_template.jinja");
  if (!chat_template.empty()) std::ofstream(dir / "chat_template.jinja") << chat_template;
}

// It, loaded; throws when that fails.
inline std::shared_ptr<const Tokenizer> LoadTinyTokenizer() {
  const auto dir =
      std::filesystem::temp_directory_path() / fmt::format("warmpath-tiny-{}", getpid());
  WriteTinyTokenizer(dir);
  auto tokenizer = Tokenizer::Load(dir.string());
  std::filesystem::remove_all(dir);
  return tokenizer.value();
}

}  // namespace warmpath::prompt
