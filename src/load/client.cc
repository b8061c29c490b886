#include "load/client.h"

#include <fmt/format.h>

#include <utility>

#include "base/units.h"
#include "load/stream_reader.h"

namespace warmpath::load {
namespace {

// Gaps beyond this per client are not kept: 256 MiB.
constexpr size_t kMaxGaps = size_t{64} << 20;
// Requests due while so many are open are not sent: they count as errors "client_full".
constexpr size_t kMaxInFlight = 16'384;
constexpr size_t kMaxRefusal = 300;

std::string_view FailureName(net::CallFailure failure) {
  switch (failure) {
    case net::CallFailure::kConnect:
      return "connect";
    case net::CallFailure::kBeforeHead:
      return "reset";
    case net::CallFailure::kAfterHead:
      return "broken";
    case net::CallFailure::kTimeout:
      return "timeout";
    case net::CallFailure::kProtocol:
      return "protocol";
  }
  return "broken";
}

}  // namespace

struct Client::Flight {
  RequestRecord record;
  TimePoint due;
  TimePoint last_text;
  int status = 0;
  bool over = false;    // recorded
  std::string refusal;  // start of the body of an answer that is not 200
  StreamReader reader;
  std::vector<float> gaps;
  std::unique_ptr<net::HttpCall> call;
};

Client::Client(net::Loop& loop, RunPlan& plan, size_t side, size_t shard, size_t shards,
               size_t workers, std::function<void()> finished)
    : loop_(loop),
      plan_(plan),
      side_(plan.options->sides[side]),
      state_(*plan.sides[side]),
      side_index_(side),
      shard_(shard),
      shards_(shards),
      workers_(workers),
      finished_(std::move(finished)) {}

Client::~Client() = default;

double Client::Offset(TimePoint at) const {
  return ToSeconds(at - plan_.start);
}

void Client::Start() {
  net::HttpClientOptions options;
  options.max_idle_per_host = 4096;
  http_ = net::HttpClient::Create(loop_, options);
  next_ = shard_;
  if (plan_.arrivals.empty()) {
    for (size_t i = 0; i < workers_; ++i) Next();
  } else {
    Arm();
  }
  CheckFinished();
}

void Client::Arm() {
  const TimePoint now = SystemClock().Now();
  while (next_ < plan_.total && !cancelled_) {
    const TimePoint due = plan_.start + plan_.arrivals[next_];
    if (due > now) {
      timer_ = loop_.After(due - now, [this] { Arm(); });
      return;
    }
    Send(next_, due);
    next_ += shards_;
  }
  CheckFinished();
}

void Client::Next() {
  const TimePoint now = SystemClock().Now();
  const Duration duration = plan_.options->duration;
  const uint64_t index = state_.next.fetch_add(1, std::memory_order_relaxed);
  const bool over = (plan_.total != 0 && index >= plan_.total) ||
                    (duration != Duration{0} && now - plan_.start >= duration);
  if (cancelled_ || over) {
    ++idle_workers_;
    return;
  }
  Send(index, now);
}

void Client::Send(uint64_t index, TimePoint due) {
  auto flight = std::make_shared<Flight>();
  flight->due = due;
  flight->record.index = index;
  flight->record.start = Offset(due);
  const net::Url& target = side_.targets[index % side_.targets.size()];
  if (side_.targets.size() > 1) flight->record.endpoint = target.address.ToString();

  net::HttpRequest request;
  request.method = "POST";
  request.target = "/v1/completions";
  request.headers = {{"Content-Type", "application/json"},
                     {"Accept", "text/event-stream"},
                     {"x-request-id", fmt::format("bench-{}-{}-{}", plan_.options->workload.seed,
                                                  side_index_, index)}};
  if (!plan_.options->api_key.empty()) {
    request.headers.Add("Authorization", "Bearer " + plan_.options->api_key);
  }
  request.body = plan_.workload->Body(index);

  // The flight outlives its handlers' run: it leaves flights_ by a posted erase.
  Flight* raw = flight.get();
  flights_.emplace(index, flight);
  state_.sent.fetch_add(1, std::memory_order_relaxed);
  if (flights_.size() > kMaxInFlight) {
    Finish(*raw, "client_full");
    return;
  }
  net::CallHandlers handlers;
  handlers.on_head = [raw](net::HttpResponseHead head) {
    raw->status = head.status;
    if (const auto endpoint = head.headers.Get("x-warmpath-endpoint")) {
      raw->record.endpoint = std::string(*endpoint);
    }
    if (const auto predicted = head.headers.Get("x-warmpath-cached-tokens")) {
      if (const auto value = ParseInt(*predicted); value && *value >= 0) {
        raw->record.predicted_cached = static_cast<uint32_t>(*value);
      }
    }
  };
  handlers.on_data = [raw](std::string_view bytes) {
    if (raw->status != 200) {
      raw->refusal += bytes.substr(0, kMaxRefusal - raw->refusal.size());
      return;
    }
    const size_t texts = raw->reader.Feed(bytes);
    if (texts == 0) return;
    const TimePoint now = SystemClock().Now();
    if (raw->record.ttft == 0) {
      raw->record.ttft = static_cast<float>(ToSeconds(now - raw->due));
    } else {
      raw->gaps.push_back(static_cast<float>(ToSeconds(now - raw->last_text)));
    }
    // Several pieces in one read came together: no time between them.
    for (size_t i = 1; i < texts; ++i) raw->gaps.push_back(0);
    raw->last_text = now;
  };
  handlers.on_end = [this, raw] {
    std::string error;
    if (raw->status != 200) {
      error = fmt::format("http_{}", raw->status);
      raw->record.detail = std::move(raw->refusal);
    } else if (raw->reader.failed()) {
      error = "engine";
    } else if (!raw->reader.done()) {
      error = "broken";
    } else if (raw->record.ttft == 0 && !raw->reader.usage()) {
      error = "empty";
    }
    Finish(*raw, std::move(error));
  };
  handlers.on_error = [this, raw](net::CallFailure failure, const Error& why) {
    raw->record.detail = why.message;
    Finish(*raw, std::string(FailureName(failure)));
  };

  net::CallOptions options;
  options.head_timeout = plan_.options->request_timeout;
  options.idle_timeout = plan_.options->request_timeout;
  flight->call = http_->Send(target, std::move(request), options, std::move(handlers));
}

void Client::Finish(Flight& flight, std::string error) {
  flight.over = true;
  const TimePoint now = SystemClock().Now();
  RequestRecord& record = flight.record;
  record.e2e = static_cast<float>(ToSeconds(now - flight.due));
  record.error = std::move(error);
  if (flight.reader.usage()) {
    record.prompt_tokens = flight.reader.usage()->prompt_tokens;
    record.cached_tokens = flight.reader.usage()->cached_tokens;
    record.completion_tokens = flight.reader.usage()->completion_tokens;
  }
  // Text that is all special tokens is invisible: the first token was there at the end at the
  // latest.
  if (record.ttft == 0) record.ttft = record.e2e;

  const bool measured = record.index >= plan_.options->warmup_requests;
  (record.error.empty() ? state_.answered : state_.errors).fetch_add(1, std::memory_order_relaxed);
  if (measured && record.error.empty()) {
    state_.prompt_tokens.fetch_add(record.prompt_tokens, std::memory_order_relaxed);
    state_.cached_tokens.fetch_add(record.cached_tokens, std::memory_order_relaxed);
    state_.ttft_us.fetch_add(static_cast<uint64_t>(double{record.ttft} * 1e6),
                             std::memory_order_relaxed);
    state_.measured.fetch_add(1, std::memory_order_relaxed);
    if (gaps_.size() + flight.gaps.size() <= kMaxGaps) {
      gaps_.insert(gaps_.end(), flight.gaps.begin(), flight.gaps.end());
    }
  }
  const uint64_t index = record.index;
  if (measured) records_.push_back(std::move(record));
  loop_.Post([this, index] {
    flights_.erase(index);
    if (plan_.arrivals.empty() && !cancelled_) Next();
    CheckFinished();
  });
}

void Client::Cancel(std::string_view reason) {
  if (cancelled_) return;
  cancelled_ = true;
  timer_.Cancel();
  for (auto& [index, flight] : flights_) {
    if (flight->over) continue;
    flight->call->Cancel();
    if (index >= plan_.options->warmup_requests) {
      flight->record.e2e = static_cast<float>(ToSeconds(SystemClock().Now() - flight->due));
      flight->record.error = std::string(reason);
      records_.push_back(std::move(flight->record));
    }
    state_.errors.fetch_add(1, std::memory_order_relaxed);
  }
  flights_.clear();
  CheckFinished();
}

void Client::CheckFinished() {
  if (told_ || !flights_.empty()) return;
  const bool open = !plan_.arrivals.empty();
  if (!cancelled_ && open && next_ < plan_.total) return;
  if (!cancelled_ && !open && idle_workers_ < workers_) return;
  told_ = true;
  finished_();
}

}  // namespace warmpath::load
