// A request body as it arrives, counted against what all streams together may hold.
//
// The buffer grows in place where the allocator can (large blocks are remapped, not copied), so a
// large body is held once. A BodyBuffer belongs to one stream; once complete it may be read from
// another thread. The budget is thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>

namespace warmpath::extproc {

class ByteBudget {
 public:
  explicit ByteBudget(size_t limit) : limit_(limit) {}
  // False: taking `bytes` more would exceed the limit; nothing was taken.
  [[nodiscard]] bool Take(size_t bytes) { return TakeUpTo(limit_, bytes); }
  // For what can be done without: false too where more than half would then be in use.
  [[nodiscard]] bool TakeSpare(size_t bytes) { return TakeUpTo(limit_ / 2, bytes); }
  // Takes them whatever the limit says.
  void Force(size_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void Return(size_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  size_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  bool TakeUpTo(size_t limit, size_t bytes);

  const size_t limit_;
  std::atomic<size_t> used_{0};
};

class BodyBuffer {
 public:
  explicit BodyBuffer(ByteBudget& budget) : budget_(budget) {}
  // A body made here of one that was admitted: counted, never turned away.
  BodyBuffer(ByteBudget& budget, std::string text);
  ~BodyBuffer();
  BodyBuffer(const BodyBuffer&) = delete;
  BodyBuffer& operator=(const BodyBuffer&) = delete;

  // The size it will probably have, as the client said; nothing is taken for it yet.
  void Expect(size_t bytes) { expected_ = bytes; }
  // False: the budget is used up.
  [[nodiscard]] bool Append(std::string_view bytes);

  std::string_view view() const {
    return text_.empty() ? std::string_view(data_, size_) : std::string_view(text_);
  }
  size_t size() const { return view().size(); }

 private:
  ByteBudget& budget_;
  char* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
  size_t expected_ = 0;
  size_t charged_ = 0;
  const std::string text_;
};

}  // namespace warmpath::extproc
