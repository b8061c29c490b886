// Preparing a request for routing: body read, tokens, block keys. Each case runs beside the full
// way, which keeps nothing of earlier prompts, in the same process; see README.md, tokens.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "kv/keys.h"
#include "prompt/encoder.h"

namespace warmpath::prompt {
namespace {

constexpr uint32_t kBlock = 16;

std::shared_ptr<const Tokenizer> BenchTokenizer() {
  static const auto tokenizer = [] {
    const char* name = std::getenv("WARMPATH_BENCH_TOKENIZER");
    const std::string dir =
        std::string(WARMPATH_TOKENIZERS) + "/" + (name == nullptr ? "qwen3" : name);
    auto loaded = Tokenizer::Load(dir);
    if (!loaded) {
      std::fprintf(stderr, "%s: %s\n", dir.c_str(), loaded.error().message.c_str());
      std::exit(1);
    }
    return *loaded;
  }();
  return tokenizer;
}

// Prose from a vocabulary of word-like words, with the frequencies of words; about 4.5 bytes a
// token.
class Author {
 public:
  explicit Author(unsigned seed) : random_(seed) {
    static constexpr const char* kStarts[] = {"re",    "con", "de", "in",  "pro",
                                              "trans", "un",  "ex", "per", "sub"};
    static constexpr const char* kMiddles[] = {"form", "duct",  "port",  "scrib", "vers",
                                               "mit",  "tract", "spect", "ceiv",  "pos"};
    static constexpr const char* kEnds[] = {"", "s", "ed", "ing", "ion", "able", "ive", "ment"};
    for (const char* word :
         {"the", "of", "and", "to",   "a",  "in", "is",   "it",   "that", "was",
          "for", "on", "are", "with", "as", "be", "this", "have", "from", "or"}) {
      words_.emplace_back(word);
    }
    for (const char* start : kStarts) {
      for (const char* middle : kMiddles) {
        for (const char* end : kEnds) words_.push_back(std::string(start) + middle + end);
      }
    }
  }

  std::string Text(size_t bytes) {
    std::string text;
    while (text.size() < bytes) {
      const size_t bound = random_() % 2 == 0 ? 20 : words_.size();
      text += words_[random_() % bound];
      text += random_() % 14 == 0 ? ".\\n" : " ";
    }
    text.resize(bytes - 1);
    if (text.back() == '\\') text.back() = 'x';  // half an escape
    return text + 'x';
  }

 private:
  std::mt19937 random_;
  std::vector<std::string> words_;
};

std::string Message(std::string_view role, std::string_view content) {
  return std::string(R"({"role":")").append(role).append(R"(","content":")").append(content) +
         "\"}";
}

std::string Body(const std::string& messages) {
  return R"({"model":"m","messages":[)" + messages + R"(],"max_tokens":16,"stream":true})";
}

// What routing does before it looks at endpoints, and the keys it looks up.
uint64_t Prepare(const Encoder& encoder, const std::string& body, bool full) {
  static thread_local PlainBody plain;
  RequestView view;
  const bool is_plain = !full && encoder.Read(Api::kChatCompletions, body, plain);
  if (!is_plain) view = *ReadRequest(Api::kChatCompletions, body);
  const auto prompts = encoder.Encode(Api::kChatCompletions, body, is_plain ? &plain : nullptr);
  if (!prompts) std::abort();
  uint64_t sum = view.n;
  for (const EncodedPrompt& prompt : *prompts) {
    const auto keys = prompt.Keys(kv::RootKey(kBlock, "", ""), kBlock);
    sum += keys.empty() ? 0 : keys.back();
  }
  return sum;
}

// `bodies` in turn, after those of `before`; a body seen before is never new again, so the cache
// is thrown away when they are used up.
void Run(benchmark::State& state, const std::vector<std::string>& before,
         const std::vector<std::string>& bodies) {
  const bool full = state.range(0) == 0;
  std::unique_ptr<Encoder> encoder;
  size_t next = bodies.size();
  for (auto _ : state) {
    if (next == bodies.size()) {
      state.PauseTiming();
      encoder = std::make_unique<Encoder>(
          BenchTokenizer(), EncoderOptions{.cache_bytes = full ? 0 : size_t{64} << 20, .now = {}});
      for (const std::string& body : before) Prepare(*encoder, body, full);
      next = 0;
      state.ResumeTiming();
    }
    benchmark::DoNotOptimize(Prepare(*encoder, bodies[next++], full));
  }
  state.SetLabel(full ? "full" : "incremental");
  state.counters["bytes"] = static_cast<double>(bodies.front().size());
}

void Small(benchmark::State& state) {
  Author author(1);
  std::vector<std::string> bodies;
  for (int i = 0; i < 2000; ++i) bodies.push_back(Body(Message("user", author.Text(200))));
  Run(state, {Body(Message("user", "hello"))}, bodies);
}

// `size` bytes, all but `own` of them common.
void Common(benchmark::State& state, size_t size, size_t own, bool system) {
  Author author(2);
  const std::string common = author.Text(size - own);
  const auto body = [&] {
    return system ? Body(Message("system", common) + "," + Message("user", author.Text(own)))
                  : Body(Message("user", common + " " + author.Text(own)));
  };
  std::vector<std::string> bodies;
  for (int i = 0; i < 64; ++i) bodies.push_back(body());
  Run(state, {body()}, bodies);
}

std::string Conversation(Author& author, size_t bytes, int turns) {
  std::string messages;
  for (int i = 0; i < turns; ++i) {
    if (i > 0) messages += ',';
    messages += Message(i % 2 == 0 ? "user" : "assistant", author.Text(bytes / turns));
  }
  return messages;
}

// Chats of 100k tokens: the first request of each, or the one after it.
void Chat(benchmark::State& state, bool second) {
  Author author(3);
  std::vector<std::string> firsts, seconds;
  for (int i = 0; i < 12; ++i) {
    const std::string messages = Conversation(author, 450'000, 21);
    firsts.push_back(Body(messages));
    seconds.push_back(Body(messages + "," + Message("assistant", author.Text(800)) + "," +
                           Message("user", author.Text(300))));
  }
  Run(state, second ? firsts : std::vector<std::string>{}, second ? seconds : firsts);
}

// A body that came before: what looking costs.
void Known(benchmark::State& state) {
  Author author(4);
  const std::string body = Body(Conversation(author, 450'000, 21));
  Run(state, {body}, std::vector<std::string>(100, body));
}

#define BOTH_WAYS ->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond)
BENCHMARK(Small) BOTH_WAYS;
BENCHMARK_CAPTURE(Common, 32KiB_90_percent_one_message, 32 << 10, 3277, false) BOTH_WAYS;
BENCHMARK_CAPTURE(Common, 32KiB_90_percent_system_and_user, 32 << 10, 3277, true) BOTH_WAYS;
BENCHMARK_CAPTURE(Common, 400kB_99_percent_one_message, 400'000, 4000, false) BOTH_WAYS;
BENCHMARK_CAPTURE(Common, 400kB_99_percent_system_and_user, 400'000, 4000, true) BOTH_WAYS;
BENCHMARK_CAPTURE(Chat, first_turn, false) BOTH_WAYS;
BENCHMARK_CAPTURE(Chat, second_turn, true) BOTH_WAYS;
BENCHMARK(Known) BOTH_WAYS;

}  // namespace
}  // namespace warmpath::prompt

BENCHMARK_MAIN();
