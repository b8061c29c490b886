// Light engines: one thread serves many ports. Answers come at once, streams at an even pace, and
// what a prompt has stored is announced over ZMQ in real tokens when asked (POST /bench/flush), so
// that tokenizing does not disturb what is measured.
//
// Requests are read for `stream` and `max_tokens` in their first bytes only. Headers of the bench:
// `x-bench-interval-us` (between the events of a stream), `x-bench-store: 1` (keep the prompt for
// the flush).
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <fstream>
#include <memory>
#include <queue>
#include <sstream>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "bench/proxy_tool.h"
#include "kv/event_batch.h"
#include "kv/keys.h"
#include "load/random.h"
#include "prompt/tokenizer.h"
#include "sim/publisher.h"

namespace warmpath::bench {
namespace {

constexpr size_t kEventBytes = 200;
constexpr size_t kHeadOfBody = 512;  // bytes of a body that are looked at
constexpr size_t kBlocksOfBatch = 512;
constexpr size_t kPassing = 10'000;  // blocks of x-bench-new-blocks an engine keeps

struct Options {
  uint32_t count = 8;
  uint32_t block_size = 64;
  std::string model = "Qwen/Qwen3-0.6B", metrics_file, tokenizer, ready_file;
};

struct Engine {
  int listener = -1;
  uint16_t port = 0;
  size_t stream = 0;  // of the publisher
  std::vector<std::string> to_store;
  std::unordered_set<kv::BlockKey> stored;
  std::deque<kv::EngineHash> passing;  // of x-bench-new-blocks, oldest first
};

struct Connection {
  int fd = -1;
  uint32_t engine = 0;
  uint64_t generation = 0;
  std::string head, body, out;
  size_t body_left = 0;
  std::string path;
  bool store = false;
  uint32_t new_blocks = 0;
  int64_t interval_ns = 5'000'000;
  uint64_t events_left = 0;
};

struct Due {
  int64_t at;
  int fd;
  uint64_t generation;
  bool operator<(const Due& other) const { return at > other.at; }
};

// The value of `name` (lower case, with its colon) in a head; "" when absent.
std::string_view Field(std::string_view head, std::string_view name) {
  for (size_t at = head.find("\r\n"); at != std::string_view::npos;
       at = head.find("\r\n", at + 2)) {
    const std::string_view line = head.substr(at + 2);
    if (line.size() > name.size() && strncasecmp(line.data(), name.data(), name.size()) == 0) {
      std::string_view value = line.substr(name.size(), line.find("\r\n") - name.size());
      while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
      return value;
    }
  }
  return {};
}

uint64_t NumberAfter(std::string_view text, std::string_view key, uint64_t otherwise) {
  const size_t at = text.find(key);
  if (at == std::string_view::npos) return otherwise;
  return std::strtoull(text.data() + at + key.size(), nullptr, 10);
}

class Engines {
 public:
  explicit Engines(const Options& options);
  [[noreturn]] void Run();

 private:
  void Open(Engine& engine);
  void Accept(uint32_t engine);
  void Readable(Connection& c);
  void Feed(Connection& c, std::string_view data);
  void Answer(Connection& c);
  void Send(Connection& c, std::string_view bytes);
  void Close(Connection& c);
  void Tick(const Due& due);
  void AnnounceNew(Engine& engine, uint32_t blocks);
  void StoreAll(Engine& engine, size_t& blocks);
  std::string Whole(std::string_view type, std::string_view body) const;

  Options options_;
  int epoll_ = epoll_create1(0);
  std::vector<Engine> engines_;
  std::vector<std::unique_ptr<Connection>> connections_;  // by descriptor
  std::priority_queue<Due> due_;
  uint64_t generations_ = 0, streams_ = 0, requests_ = 0, scrapes_ = 0;
  std::string completion_, models_, metrics_, event_, last_event_, stream_head_;
  std::shared_ptr<const prompt::Tokenizer> tokenizer_;
  sim::Publisher publisher_;
  load::Random random_{1};
  std::vector<char> scratch_ = std::vector<char>(256 << 10);
};

std::string Engines::Whole(std::string_view type, std::string_view body) const {
  std::string out =
      "HTTP/1.1 200 OK\r\ndate: Mon, 02 Nov 2026 10:00:00 GMT\r\nserver: "
      "uvicorn\r\ncontent-length: ";
  out += std::to_string(body.size());
  return out.append("\r\ncontent-type: ").append(type).append("\r\n\r\n").append(body);
}

Engines::Engines(const Options& options) : options_(options), engines_(options.count) {
  const std::string& model = options_.model;
  completion_ = Whole(
      "application/json",
      R"({"id":"chatcmpl-5f3a9c0e1b7d4826","object":"chat.completion","created":1790000000,"model":")" +
          model +
          R"(","choices":[{"index":0,"message":{"role":"assistant","content":"Yes"},"logprobs":null,)"
          R"("finish_reason":"length"}],"usage":{"prompt_tokens":50,"completion_tokens":1,"total_tokens":51}})");
  models_ =
      Whole("application/json", R"({"object":"list","data":[{"id":")" + model +
                                    R"(","object":"model","created":0,"owned_by":"vllm","root":")" +
                                    model + R"(","parent":null,"max_model_len":262144}]})");
  std::string page = "# no metrics\n";
  if (!options_.metrics_file.empty()) {
    std::ifstream file(options_.metrics_file, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    page = text.str();
    if (page.empty()) Die("cannot read " + options_.metrics_file);
  }
  metrics_ = Whole("text/plain; version=0.0.4; charset=utf-8", page);
  stream_head_ =
      "HTTP/1.1 200 OK\r\ndate: Mon, 02 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\ncontent-type: "
      "text/event-stream; charset=utf-8\r\n"
      "transfer-encoding: chunked\r\n\r\n";
  std::string event =
      R"(data: {"id":"chatcmpl-5f3a9c0e1b7d4826","object":"chat.completion.chunk","created":1790000000,"model":")" +
      model + R"(","choices":[{"index":0,"delta":{"content":")";
  const std::string rest = R"("},"finish_reason":null}]})"
                           "\n\n";
  if (event.size() + rest.size() < kEventBytes)
    event.append(kEventBytes - event.size() - rest.size(), 'x');
  event += rest;
  char size[16];
  std::snprintf(size, sizeof(size), "%zx\r\n", event.size());
  event_ = size + event + "\r\n";
  last_event_ = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

  if (!options_.tokenizer.empty()) {
    auto loaded = prompt::Tokenizer::Load(options_.tokenizer);
    if (!loaded) Die(loaded.error().message);
    tokenizer_ = *loaded;
  }
  std::string ready = "{";
  for (Engine& engine : engines_) {
    const size_t i = static_cast<size_t>(&engine - engines_.data());
    Open(engine);
    const std::string address = "127.0.0.1:" + std::to_string(engine.port);
    sim::Publisher::StreamOptions stream;
    stream.endpoint = "tcp://127.0.0.1:0";
    stream.topic = "kv@" + address + "@" + model;
    auto bound = publisher_.AddStream(stream);
    if (!bound) Die(bound.error().message);
    engine.stream = i;
    const std::string suffix = i == 0 ? "" : "_" + std::to_string(i);
    if (i > 0) ready += ",";
    ready += "\"engine" + suffix + "\":\"http://" + address + "\",\"events" + suffix + "\":\"" +
             bound->events + "\"";
  }
  ready += "}";
  publisher_.Start();
  const std::string unfinished = options_.ready_file + ".new";
  std::ofstream(unfinished) << ready;
  if (std::rename(unfinished.c_str(), options_.ready_file.c_str()) != 0)
    Die("cannot write " + options_.ready_file);
}

void Engines::Open(Engine& engine) {
  engine.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(engine.listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(engine.listener, 4096) != 0)
    Die(std::string("cannot listen: ") + std::strerror(errno));
  socklen_t length = sizeof(address);
  getsockname(engine.listener, reinterpret_cast<sockaddr*>(&address), &length);
  engine.port = ntohs(address.sin_port);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = (static_cast<uint64_t>(&engine - engines_.data()) << 32) | 0xFFFFFFFFu;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, engine.listener, &event);
}

void Engines::Accept(uint32_t engine) {
  for (;;) {
    const int fd =
        accept4(engines_[engine].listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connections_.size() <= static_cast<size_t>(fd))
      connections_.resize(static_cast<size_t>(fd) + 1);
    auto& c = connections_[static_cast<size_t>(fd)] = std::make_unique<Connection>();
    c->fd = fd;
    c->engine = engine;
    c->generation = ++generations_;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = static_cast<uint64_t>(fd);
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
}

void Engines::Close(Connection& c) {
  const int fd = c.fd;
  connections_[static_cast<size_t>(fd)].reset();
  close(fd);
}

void Engines::Readable(Connection& c) {
  const int fd = c.fd;
  const uint64_t generation = c.generation;
  for (;;) {
    const ssize_t n = recv(fd, scratch_.data(), scratch_.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return Close(c);
    Feed(c, {scratch_.data(), static_cast<size_t>(n)});
    const auto& still = connections_[static_cast<size_t>(fd)];
    if (still == nullptr || still->generation != generation) return;
    if (static_cast<size_t>(n) < scratch_.size()) return;
  }
}

void Engines::Feed(Connection& c, std::string_view data) {
  while (!data.empty()) {
    if (c.body_left > 0) {
      const size_t take = std::min(c.body_left, data.size());
      if (c.store || c.body.size() < kHeadOfBody) c.body.append(data.substr(0, take));
      c.body_left -= take;
      data.remove_prefix(take);
      if (c.body_left == 0) Answer(c);
      continue;
    }
    const size_t before = c.head.size();
    c.head.append(data);
    const size_t end = c.head.find("\r\n\r\n", before < 3 ? 0 : before - 3);
    if (end == std::string::npos) {
      if (c.head.size() > (64 << 10)) Die("a request's head is too long");
      return;
    }
    data.remove_prefix(end + 4 - before);
    c.head.resize(end);
    const size_t space = c.head.find(' ');
    c.path = c.head.substr(space + 1, c.head.find(' ', space + 1) - space - 1);
    const std::string_view length = Field(c.head, "content-length:");
    if (!Field(c.head, "transfer-encoding:").empty()) Die("a request came in chunks");
    c.body_left = length.empty() ? 0 : std::strtoull(length.data(), nullptr, 10);
    const std::string_view interval = Field(c.head, "x-bench-interval-us:");
    c.interval_ns =
        interval.empty() ? 5'000'000 : std::strtoll(interval.data(), nullptr, 10) * 1000;
    const std::string_view blocks = Field(c.head, "x-bench-new-blocks:");
    c.new_blocks =
        blocks.empty() ? 0 : static_cast<uint32_t>(std::strtoul(blocks.data(), nullptr, 10));
    c.store = Field(c.head, "x-bench-store:") == "1";
    c.head.clear();
    c.body.clear();
    if (c.body_left == 0) Answer(c);
  }
}

void Engines::Answer(Connection& c) {
  if (c.path == "/metrics") return ++scrapes_, Send(c, metrics_);
  if (c.path == "/v1/models") return Send(c, models_);
  if (c.path == "/version") return Send(c, Whole("application/json", R"({"version":"0.32.0"})"));
  if (c.path == "/health") return Send(c, Whole("text/plain", ""));
  if (c.path == "/bench/stats")
    return Send(c, Whole("application/json", "{\"requests\":" + std::to_string(requests_) +
                                                 ",\"scrapes\":" + std::to_string(scrapes_) + "}"));
  if (c.path == "/bench/flush") {
    size_t blocks = 0;
    for (Engine& engine : engines_) StoreAll(engine, blocks);
    return Send(c, Whole("application/json", "{\"blocks\":" + std::to_string(blocks) + "}"));
  }
  ++requests_;
  const std::string_view head_of_body = std::string_view(c.body).substr(0, kHeadOfBody);
  const bool stream = head_of_body.find("\"stream\":true") != std::string_view::npos;
  const uint64_t events = stream ? NumberAfter(head_of_body, "\"max_tokens\":", 1) : 0;
  if (c.store) engines_[c.engine].to_store.push_back(std::move(c.body));
  c.body.clear();
  if (c.new_blocks > 0) AnnounceNew(engines_[c.engine], c.new_blocks);
  if (!stream) return Send(c, completion_);
  c.events_left = events;
  // Streams that begin together do not tick together.
  const int64_t phase = c.interval_ns * static_cast<int64_t>(streams_++ % 32) / 32;
  due_.push({NowNs() + phase, c.fd, c.generation});
  Send(c, stream_head_);
}

void Engines::Tick(const Due& due) {
  const auto& held = connections_[static_cast<size_t>(due.fd)];
  if (held == nullptr || held->generation != due.generation) return;
  Connection& c = *held;
  if (c.events_left == 0) return Send(c, last_event_);
  --c.events_left;
  due_.push({due.at + c.interval_ns, c.fd, c.generation});
  Send(c, event_);
}

void Engines::Send(Connection& c, std::string_view bytes) {
  if (c.out.empty()) {
    const ssize_t n = send(c.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n == static_cast<ssize_t>(bytes.size())) return;
    // A peer that is gone is seen by the next read.
    if (n < 0 && errno != EAGAIN) return;
    if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
  }
  c.out.append(bytes);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT;
  event.data.u64 = static_cast<uint64_t>(c.fd);
  epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &event);
}

void Engines::AnnounceNew(Engine& engine, uint32_t blocks) {
  kv::EventBatch batch;
  batch.ts = static_cast<double>(time(nullptr));
  batch.rank = 0;
  if (engine.passing.size() > kPassing) {
    kv::BlockRemoved gone;
    gone.medium = "GPU";
    const auto end = engine.passing.begin() + blocks;
    gone.hashes.assign(engine.passing.begin(), end);
    engine.passing.erase(engine.passing.begin(), end);
    batch.events.emplace_back(std::move(gone));
  }
  kv::BlockStored event;
  event.block_size = options_.block_size;
  event.medium = "GPU";
  for (uint32_t i = 0; i < blocks; ++i) event.hashes.push_back(random_.Next());
  for (uint32_t i = 0; i < blocks * options_.block_size; ++i) {
    event.tokens.push_back(static_cast<kv::TokenId>(random_.Below(100'000)));
  }
  engine.passing.insert(engine.passing.end(), event.hashes.begin(), event.hashes.end());
  batch.events.emplace_back(std::move(event));
  publisher_.Publish(engine.stream, kv::EncodeBatch(batch));
}

void Engines::StoreAll(Engine& engine, size_t& blocks) {
  if (tokenizer_ == nullptr) Die("prompts can only be stored with --tokenizer");
  for (const std::string& body : engine.to_store) {
    auto chat = tokenizer_->RenderChatBody(body);
    if (!chat) Die(chat.error().message);
    auto tokens = tokenizer_->Encode(chat->text, chat->add_special_tokens);
    if (!tokens) Die(tokens.error().message);
    const uint32_t size = options_.block_size;
    const std::vector<kv::BlockKey> keys = kv::PrefixKeys(kv::RootKey(size, "", ""), *tokens, size);
    for (size_t i = 0; i < keys.size();) {
      if (!engine.stored.insert(keys[i]).second) {
        ++i;
        continue;
      }
      kv::BlockStored event;
      event.block_size = size;
      event.medium = "GPU";
      if (i > 0) event.parent = keys[i - 1];
      const size_t first = i;
      do event.hashes.push_back(keys[i++]);
      while (i < keys.size() && event.hashes.size() < kBlocksOfBatch &&
             engine.stored.insert(keys[i]).second);
      event.tokens.assign(tokens->begin() + static_cast<ptrdiff_t>(first * size),
                          tokens->begin() + static_cast<ptrdiff_t>(i * size));
      blocks += event.hashes.size();
      kv::EventBatch batch;
      batch.ts = static_cast<double>(time(nullptr));
      batch.rank = 0;
      batch.events.emplace_back(std::move(event));
      publisher_.Publish(engine.stream, kv::EncodeBatch(batch));
    }
  }
  engine.to_store.clear();
}

void Engines::Run() {
  epoll_event ready[256];
  for (;;) {
    timespec wait{};
    const timespec* timeout = nullptr;
    if (!due_.empty()) {
      const int64_t left = std::max<int64_t>(0, due_.top().at - NowNs());
      wait = {left / 1'000'000'000, left % 1'000'000'000};
      timeout = &wait;
    }
    const int n = epoll_pwait2(epoll_, ready, 256, timeout, nullptr);
    if (n < 0 && errno != EINTR) Die(std::string("epoll: ") + std::strerror(errno));
    for (int i = 0; i < n; ++i) {
      const uint64_t data = ready[i].data.u64;
      if ((data & 0xFFFFFFFFu) == 0xFFFFFFFFu) {
        Accept(static_cast<uint32_t>(data >> 32));
        continue;
      }
      const auto& held = connections_[data];
      if (held == nullptr) continue;
      if ((ready[i].events & EPOLLOUT) != 0) {
        Connection& c = *held;
        const ssize_t sent = send(c.fd, c.out.data(), c.out.size(), MSG_NOSIGNAL);
        if (sent > 0) c.out.erase(0, static_cast<size_t>(sent));
        if (c.out.empty()) {
          epoll_event event{};
          event.events = EPOLLIN;
          event.data.u64 = data;
          epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &event);
        }
      }
      if ((ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Readable(*held);
    }
    for (const int64_t now = NowNs(); !due_.empty() && due_.top().at <= now;) {
      const Due due = due_.top();
      due_.pop();
      Tick(due);
    }
  }
}

}  // namespace

int RunEngines(int argc, char** argv) {
  Options options;
  ReadOptions(argc, argv,
              {{"--count", &options.count},
               {"--block-size", &options.block_size},
               {"--model", &options.model},
               {"--metrics", &options.metrics_file},
               {"--tokenizer", &options.tokenizer},
               {"--ready-file", &options.ready_file}});
  if (options.ready_file.empty()) Die("engines: --ready-file is needed");
  TakeAllFiles();
  Engines(options).Run();
}

}  // namespace warmpath::bench
