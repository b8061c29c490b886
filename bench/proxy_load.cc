// The client of `./dev bench gateway`: a closed loop of chat requests over keep-alive connections
// from one thread, and what they cost the server's process meanwhile, as the kernel counts it. One
// line of JSON on standard output.
//
// Phases: `closed` (requests in a closed loop), `turn1` and `turn2` (in such a loop too, the first
// and the second request of the same long chats), `upload` (requests one after the other that
// arrive in pieces; latencies count from the last piece), `hold` (connections or streams stay open,
// and resident memory is compared).
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include "bench/proxy_text.h"
#include "bench/proxy_tool.h"

namespace warmpath::bench {
namespace {

struct Options {
  std::string phase = "closed", form = "user", model = "Qwen/Qwen3-0.6B";
  uint16_t port = 0;
  std::vector<int> pids;  // of the server
  uint32_t connections = 16, prefixes = 8;
  uint64_t requests = 1000, warm_up = 0, seed = 1, prefix_seed = 1;
  size_t prompt_bytes = 200, common_bytes = 0;
  uint64_t events = 0;  // of each answer's stream; 0: a whole answer
  uint64_t interval_us = 5000;
  size_t piece_bytes = 64 << 10;  // of an upload, with pauses in between
  uint64_t pause_us = 20'000;
  uint32_t new_blocks = 0;  // that the engine is to announce for each request
  bool store = false;
};

// On-CPU time of all threads so far.
int64_t CpuNs(const std::vector<int>& pids) {
  int64_t total = 0;
  for (const int pid : pids) {
    const std::string tasks = "/proc/" + std::to_string(pid) + "/task/";
    DIR* directory = opendir(tasks.c_str());
    if (directory == nullptr) Die("the server is gone");
    while (const dirent* task = readdir(directory)) {
      if (task->d_name[0] == '.') continue;
      std::ifstream file(tasks + task->d_name + "/schedstat");
      int64_t ns = 0;
      file >> ns;
      total += ns;
    }
    closedir(directory);
  }
  return total;
}

int64_t ResidentBytes(const std::vector<int>& pids) {
  int64_t total = 0;
  for (const int pid : pids) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/smaps_rollup");
    std::string word;
    while (file >> word) {
      if (word != "Rss:") continue;
      int64_t kib = 0;
      file >> kib;
      total += kib * 1024;
      break;
    }
  }
  return total;
}

// What one request sends: five pieces, two of them shared by all.
struct Message {
  std::string head, own, last;
  std::string_view prefix;
  std::string_view middle;
};

class Maker {
 public:
  explicit Maker(const Options& options)
      : options_(options), draw_(options.seed), text_(options.seed * 7919 + 13) {
    if (options.common_bytes == 0) return;
    for (uint32_t i = 0; i < options.prefixes; ++i) {
      std::string& prefix = prefixes_.emplace_back();
      Prose(options.prefix_seed * 1000 + i).Append(prefix, options.common_bytes);
      prefix.back() = ' ';
    }
  }

  Message Next() {
    Message m;
    Begin();
    m.last = R"("}]})";
    if (!prefixes_.empty()) {
      m.prefix =
          prefixes_[options_.phase == "closed" && !options_.store ? draw_.Below(prefixes_.size())
                                                                  : made_ % prefixes_.size()];
      if (options_.form == "system") m.middle = R"("},{"role":"user","content":")";
    }
    body_ += options_.form == "system" && !prefixes_.empty() ? R"("system","content":")"
                                                             : R"("user","content":")";
    text_.Append(m.own,
                 options_.prompt_bytes - std::min(options_.prompt_bytes, options_.common_bytes));
    ++made_;
    Finish(m);
    return m;
  }

  // Chat number `chat`: the same first turn in both phases.
  Message Turn(uint64_t chat, bool second) {
    Message m;
    Begin();
    body_ += R"("user","content":")";
    Prose(options_.seed * 100 + chat).Append(m.own, options_.prompt_bytes);
    if (second) {
      m.own += R"("},{"role":"assistant","content":"Yes"},{"role":"user","content":")";
      Prose(options_.seed * 100 + chat + 50).Append(m.own, 200);
    }
    m.last = R"("}]})";
    Finish(m);
    return m;
  }

 private:
  void Begin() {
    body_ = R"({"model":")" + options_.model + R"(","max_tokens":)" +
            std::to_string(std::max<uint64_t>(1, options_.events));
    body_ +=
        options_.events > 0 ? R"(,"stream":true,"messages":[{"role":)" : R"(,"messages":[{"role":)";
  }
  void Finish(Message& m) const {
    const size_t length =
        body_.size() + m.prefix.size() + m.middle.size() + m.own.size() + m.last.size();
    m.head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench.local\r\nAccept: */*\r\nUser-Agent: "
        "proxy_load\r\nContent-Type: application/json\r\n";
    if (options_.store) m.head += "x-bench-store: 1\r\n";
    if (options_.new_blocks > 0)
      m.head += "x-bench-new-blocks: " + std::to_string(options_.new_blocks) + "\r\n";
    if (options_.events > 0)
      m.head += "x-bench-interval-us: " + std::to_string(options_.interval_us) + "\r\n";
    m.head += "Content-Length: " + std::to_string(length) + "\r\n\r\n";
    m.head += body_;
  }

  const Options& options_;
  load::Random draw_;
  Prose text_;
  std::string body_;
  std::vector<std::string> prefixes_;
  uint64_t made_ = 0;
};

struct Connection {
  int fd = -1;
  Message message;
  size_t sent = 0;
  int64_t started = 0;
  bool waiting = false;  // for an answer
  bool writable_wanted = false;
  // Of the answer.
  std::string head;
  bool in_body = false, chunked = false, first_byte = false;
  size_t left = 0;   // of the body, or of the chunk with its line end
  std::string line;  // of a chunk's size
  bool last_chunk = false;
  char before = 0;
};

class Client {
 public:
  explicit Client(const Options& options) : options_(options), maker_(options) {}
  int Run();

 private:
  void Connect(Connection& c) const;
  void Start(Connection& c, Message message);
  void Write(Connection& c);
  void Read(Connection& c);
  bool Body(Connection& c, std::string_view& data);  // whether the answer is complete
  void Count(Connection& c, std::string_view payload);
  void Step(int timeout_ms);
  Message Next();
  void Loop(uint64_t count);
  void Uploads();
  void Hold();
  void Report(int64_t cpu, int64_t wall);

  const Options& options_;
  Maker maker_;
  std::deque<Message> written_;
  int epoll_ = epoll_create1(0);
  std::vector<Connection> connections_;
  uint64_t done_ = 0, to_start_ = 0, events_ = 0, opened_ = 0;
  bool restart_ = true;
  std::vector<int64_t> latencies_;
  std::vector<char> scratch_ = std::vector<char>(256 << 10);
};

void Client::Connect(Connection& c) const {
  c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(options_.port);
  if (connect(c.fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
    Die(std::string("cannot connect: ") + std::strerror(errno));
  const int one = 1;
  setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  fcntl(c.fd, F_SETFL, O_NONBLOCK);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &c;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &event);
}

void Client::Start(Connection& c, Message message) {
  c.message = std::move(message);
  c.sent = 0;
  c.waiting = true;
  c.first_byte = false;
  c.started = NowNs();
  Write(c);
}

void Client::Write(Connection& c) {
  const std::string_view pieces[] = {c.message.head, c.message.prefix, c.message.middle,
                                     c.message.own, c.message.last};
  for (;;) {
    iovec parts[5];
    int count = 0;
    size_t skip = c.sent;
    for (std::string_view piece : pieces) {
      const size_t passed = std::min(skip, piece.size());
      skip -= passed;
      piece.remove_prefix(passed);
      if (!piece.empty()) parts[count++] = {const_cast<char*>(piece.data()), piece.size()};
    }
    if (count == 0) break;
    const ssize_t n = writev(c.fd, parts, count);
    if (n < 0 && errno == EAGAIN) {
      if (!c.writable_wanted) {
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT;
        event.data.ptr = &c;
        epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &event);
        c.writable_wanted = true;
      }
      return;
    }
    if (n < 0) Die(std::string("cannot send: ") + std::strerror(errno));
    c.sent += static_cast<size_t>(n);
  }
  if (c.writable_wanted) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &c;
    epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &event);
    c.writable_wanted = false;
  }
}

void Client::Count(Connection& c, std::string_view payload) {
  if (payload.empty()) return;
  if (!c.first_byte) {
    c.first_byte = true;
    ++opened_;
  }
  for (const char byte : payload) {
    if (byte == '\n' && c.before == '\n') ++events_;
    c.before = byte == '\n' && c.before == '\n' ? 0 : byte;
  }
}

bool Client::Body(Connection& c, std::string_view& data) {
  while (!data.empty()) {
    if (c.left > 0) {
      const size_t take = std::min(c.left, data.size());
      // A chunk's own line end is among what is left, and is no payload.
      const size_t payload = c.chunked ? (c.left > 2 ? std::min(take, c.left - 2) : 0) : take;
      Count(c, data.substr(0, payload));
      c.left -= take;
      data.remove_prefix(take);
      if (c.left == 0 && (!c.chunked || c.last_chunk)) return true;
      continue;
    }
    const size_t end = data.find('\n');
    c.line.append(data.substr(0, end));
    if (end == std::string_view::npos) {
      data = {};
      break;
    }
    data.remove_prefix(end + 1);
    const size_t size = std::strtoull(c.line.c_str(), nullptr, 16);
    c.line.clear();
    c.last_chunk = size == 0;
    c.left = size + 2;
  }
  return false;
}

void Client::Read(Connection& c) {
  for (;;) {
    const ssize_t n = recv(c.fd, scratch_.data(), scratch_.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) Die("the server closed a connection");
    std::string_view data(scratch_.data(), static_cast<size_t>(n));
    if (!c.waiting) Die("bytes after an answer");
    if (!c.in_body) {
      const size_t before = c.head.size();
      c.head.append(data);
      const size_t end = c.head.find("\r\n\r\n");
      if (end == std::string::npos) continue;
      data.remove_prefix(end + 4 - before);
      c.head.resize(end + 2);
      if (c.head.compare(9, 3, "200") != 0)
        Die("an answer was not 200: " + c.head + std::string(data));
      std::transform(c.head.begin(), c.head.end(), c.head.begin(),
                     [](unsigned char b) { return static_cast<char>(std::tolower(b)); });
      c.chunked = c.head.find("transfer-encoding: chunked") != std::string::npos;
      const size_t length = c.head.find("content-length: ");
      if (!c.chunked && length == std::string::npos) Die("an answer without a length");
      c.left = c.chunked ? 0 : std::strtoull(c.head.c_str() + length + 16, nullptr, 10);
      c.last_chunk = false;
      c.before = 0;
      c.in_body = true;
      c.head.clear();
    }
    if (Body(c, data)) {
      c.in_body = false;
      c.waiting = false;
      ++done_;
      latencies_.push_back(NowNs() - c.started);
      if (restart_ && to_start_ > 0) {
        --to_start_;
        Start(c, Next());
      }
    }
    if (static_cast<size_t>(n) < scratch_.size()) return;
  }
}

void Client::Step(int timeout_ms) {
  epoll_event ready[64];
  const int n = epoll_wait(epoll_, ready, 64, timeout_ms);
  if (n == 0 && timeout_ms >= 1000) Die("no answer for too long");
  for (int i = 0; i < n; ++i) {
    Connection& c = *static_cast<Connection*>(ready[i].data.ptr);
    if ((ready[i].events & EPOLLOUT) != 0) Write(c);
    if ((ready[i].events & ~EPOLLOUT) != 0) Read(c);
  }
}

Message Client::Next() {
  if (written_.empty()) return maker_.Next();
  Message next = std::move(written_.front());
  written_.pop_front();
  return next;
}

void Client::Loop(uint64_t count) {
  done_ = 0;
  to_start_ = count;
  for (Connection& c : connections_) {
    if (to_start_ == 0) break;
    --to_start_;
    Start(c, Next());
  }
  while (done_ < count) Step(30'000);
}

void Client::Uploads() {
  restart_ = false;
  Connection& c = connections_[0];
  for (uint64_t n = 0; n < options_.requests; ++n) {
    const Message m = maker_.Next();
    std::string bytes = m.head;
    for (const std::string_view piece : {m.prefix, m.middle, std::string_view(m.own)})
      bytes += piece;
    bytes += m.last;
    c.waiting = true;
    c.first_byte = false;
    for (std::string_view left = bytes; !left.empty();) {
      if (left.size() < bytes.size()) usleep(static_cast<useconds_t>(options_.pause_us));
      c.started = NowNs();
      for (std::string_view piece = left.substr(0, options_.piece_bytes); !piece.empty();) {
        const ssize_t sent = send(c.fd, piece.data(), piece.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) Die(std::string("cannot send: ") + std::strerror(errno));
        if (sent > 0) piece.remove_prefix(static_cast<size_t>(sent));
      }
      left.remove_prefix(std::min(left.size(), options_.piece_bytes));
    }
    for (done_ = 0; done_ == 0;) Step(30'000);
  }
}

// Every connection makes one request, sixteen at a time; streams stay under way.
void Client::Hold() {
  const int64_t before = ResidentBytes(options_.pids);
  restart_ = false;
  const bool streams = options_.events > 0;
  done_ = opened_ = 0;
  for (uint64_t started = 0; started < connections_.size(); ++started) {
    while (started >= (streams ? opened_ : done_) + 16) Step(30'000);
    Connect(connections_[started]);
    Start(connections_[started], maker_.Next());
  }
  while ((streams ? opened_ : done_) < connections_.size()) Step(30'000);
  for (const int64_t end = NowNs() + 500'000'000; NowNs() < end;) Step(50);
  const int64_t after = ResidentBytes(options_.pids);
  std::printf(
      "{\"held\":%zu,\"before_mib\":%.1f,\"after_mib\":%.1f,\"kib_each\":%.3f}\n",
      connections_.size(), static_cast<double>(before) / 1048576,
      static_cast<double>(after) / 1048576,
      static_cast<double>(after - before) / 1024 / static_cast<double>(connections_.size()));
}

void Client::Report(int64_t cpu, int64_t wall) {
  std::sort(latencies_.begin(), latencies_.end());
  auto at = [&](double share) {
    if (latencies_.empty()) return 0.0;
    return static_cast<double>(latencies_[static_cast<size_t>(
               share * static_cast<double>(latencies_.size() - 1))]) /
           1e6;
  };
  std::printf(
      "{\"requests\":%llu,\"events\":%llu,\"cpu_us\":%.3f,\"wall_s\":%.3f,\"p50_ms\":%.3f,\"p99_"
      "ms\":%.3f}\n",
      static_cast<unsigned long long>(options_.requests), static_cast<unsigned long long>(events_),
      static_cast<double>(cpu) / 1e3 / static_cast<double>(options_.requests),
      static_cast<double>(wall) / 1e9, at(0.5), at(0.99));
}

int Client::Run() {
  connections_.resize(options_.connections);
  if (options_.phase == "hold") {
    Hold();
    return 0;
  }
  for (Connection& c : connections_) Connect(c);
  if (options_.warm_up > 0) Loop(options_.warm_up);
  latencies_.clear();
  events_ = 0;
  if (options_.phase.starts_with("turn")) {
    // All written out before the clock starts: making one takes longer than serving it.
    for (uint64_t chat = 0; chat < options_.requests; ++chat)
      written_.push_back(maker_.Turn(chat, options_.phase == "turn2"));
  }
  const int64_t cpu = CpuNs(options_.pids), begin = NowNs();
  if (options_.phase == "upload")
    Uploads();
  else
    Loop(options_.requests);
  const int64_t wall = NowNs() - begin;
  // What the server does after its last answer counts.
  usleep(5000);
  Report(CpuNs(options_.pids) - cpu, wall);
  return 0;
}

}  // namespace

int RunLoad(int argc, char** argv) {
  Options options;
  ReadOptions(argc, argv,
              {{"--phase", &options.phase},
               {"--form", &options.form},
               {"--model", &options.model},
               {"--port", &options.port},
               {"--pid", &options.pids},
               {"--connections", &options.connections},
               {"--prefixes", &options.prefixes},
               {"--requests", &options.requests},
               {"--warm-up", &options.warm_up},
               {"--seed", &options.seed},
               {"--prefix-seed", &options.prefix_seed},
               {"--prompt-bytes", &options.prompt_bytes},
               {"--common-bytes", &options.common_bytes},
               {"--events", &options.events},
               {"--interval-us", &options.interval_us},
               {"--new-blocks", &options.new_blocks},
               {"--piece-bytes", &options.piece_bytes},
               {"--pause-us", &options.pause_us},
               {"--store", &options.store}});
  TakeAllFiles();
  return Client(options).Run();
}

}  // namespace warmpath::bench

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "engines") return warmpath::bench::RunEngines(argc - 2, argv + 2);
  if (command == "load") return warmpath::bench::RunLoad(argc - 2, argv + 2);
  warmpath::bench::Die("usage: proxy_load engines|load --NAME VALUE ...");
}
