#include "routing/unseen.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace warmpath::routing {
namespace {

// From the reply that lets a request go until its engine counts it.
constexpr Duration kArrival = std::chrono::milliseconds(300);
// Figures older than this tell nothing: twice the pause between scrapes of an idle engine.
constexpr Duration kFresh = std::chrono::seconds(10);
// Where nothing was learned: an engine's usual rates, and what people ask for.
constexpr double kPrefillBase = 0.005, kPrefillPerToken = 100e-6, kSecondsPerToken = 0.02;
constexpr uint64_t kUsualTokens = 256;
constexpr uint32_t kEnoughSamples = 8;
constexpr double kShortest = 1;  // seconds

double PrefillSeconds(const UnseenAnswer& answer) {
  return kPrefillBase + kPrefillPerToken * static_cast<double>(answer.uncached_tokens);
}

double GuessedSeconds(const UnseenAnswer& answer) {
  const uint64_t tokens = std::min(answer.max_tokens.value_or(kUsualTokens), 4 * kUsualTokens);
  return PrefillSeconds(answer) + kSecondsPerToken * static_cast<double>(tokens);
}

}  // namespace

void UnseenAnswers::End(Queue& queue, size_t count, std::vector<UnseenAnswer>& ended) {
  for (; count > 0 && !queue.oldest_first.empty(); --count) {
    ended.push_back(std::move(queue.oldest_first.front()));
    queue.oldest_first.pop_front();
    --size_;
  }
}

std::vector<UnseenAnswer> UnseenAnswers::Add(UnseenAnswer answer) {
  std::vector<UnseenAnswer> ended;
  MutexLock lock(mutex_);
  Queue& queue = queues_[answer.endpoint];
  queue.oldest_first.push_back(std::move(answer));
  if (++size_ > kMaxUnseen) End(queue, 1, ended);
  return ended;
}

void UnseenAnswers::FollowScrape(Queue& queue, const fleet::ScrapedLoad& load,
                                 std::vector<UnseenAnswer>& ended) {
  if (load.at == queue.scraped) return;
  queue.scraped = load.at;
  size_t counted = 0;  // those the engine knew of
  for (const UnseenAnswer& answer : queue.oldest_first) {
    if (answer.sent + kArrival > load.at) break;
    ++counted;
  }
  const double reported = std::max(0.0, load.running) + std::max(0.0, load.waiting);
  const auto busy = static_cast<size_t>(std::lround(std::min(reported, 1e9)));
  if (counted <= busy) return;
  for (size_t i = 0; i < counted - busy; ++i) {
    const double seconds = ToSeconds(load.at - queue.oldest_first[i].sent);
    queue.samples = std::min(queue.samples + 1, kEnoughSamples);
    queue.mean_seconds += (seconds - queue.mean_seconds) / queue.samples;
  }
  End(queue, counted - busy, ended);
}

std::vector<UnseenAnswer> UnseenAnswers::Ended(const fleet::Snapshot& snapshot, TimePoint now) {
  std::vector<UnseenAnswer> ended;
  MutexLock lock(mutex_);
  for (auto it = queues_.begin(); it != queues_.end();) {
    Queue& queue = it->second;
    const auto endpoint = snapshot.Find(it->first);
    if (endpoint == nullptr) {
      End(queue, queue.oldest_first.size(), ended);
      it = queues_.erase(it);
      continue;
    }
    ++it;
    if (endpoint->health == fleet::Health::kUnhealthy) {
      End(queue, queue.oldest_first.size(), ended);
      continue;
    }
    const fleet::ScrapedLoad& load = endpoint->load;
    const bool fresh = load.at != TimePoint{} && now - load.at <= kFresh;
    if (fresh) FollowScrape(queue, load, ended);
    const auto over = [&](const UnseenAnswer& answer) {
      const Duration age = now - answer.sent;
      if (age >= kMaxUnseenTime) return true;
      if (fresh) return false;
      const double seconds =
          queue.samples == kEnoughSamples ? queue.mean_seconds : GuessedSeconds(answer);
      return ToSeconds(age) >= std::max(kShortest, seconds);
    };
    while (!queue.oldest_first.empty() && over(queue.oldest_first.front())) End(queue, 1, ended);
    // Prefills go in order, and those the engine keeps waiting have not begun.
    size_t waiting =
        fresh ? static_cast<size_t>(std::lround(std::clamp(load.waiting, 0.0, 1e9))) : 0;
    waiting = std::min(waiting, queue.oldest_first.size());
    for (size_t i = 0; i + waiting < queue.oldest_first.size(); ++i) {
      UnseenAnswer& answer = queue.oldest_first[i];
      if (ToSeconds(now - answer.sent) >= PrefillSeconds(answer)) answer.ticket.PrefillDone();
    }
  }
  return ended;
}

size_t UnseenAnswers::size() const {
  MutexLock lock(mutex_);
  return size_;
}

}  // namespace warmpath::routing
