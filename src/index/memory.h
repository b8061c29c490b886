// Memory that readers may look at without a lock: address space reserved once and given back only
// when the index ends, so a stale reference reads something old or foreign, never unmapped memory.
//
// Reservation is a lazily backed piece of address space; Arena hands out ranges of 64-byte units
// from one. Both are owned by the index; Arena is used under the index's writer lock, its words may
// be read by anyone (Load).
#pragma once

#include <cstddef>
#include <cstdint>

namespace warmpath::index {

// Words that readers look at while a writer changes them.
inline uint64_t Load(const uint64_t* word) {
  return __atomic_load_n(word, __ATOMIC_RELAXED);
}
inline void Save(uint64_t* word, uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

// Zeroed address space, backed by memory where it was touched.
class Reservation {
 public:
  explicit Reservation(uint64_t bytes);
  ~Reservation();
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  template <typename T>
  T* As() const {
    return static_cast<T*>(base_);
  }
  uint64_t bytes() const { return bytes_; }
  // Huge pages for what is touched there from now on; what has been touched already becomes huge in
  // the kernel's own time.
  void WantHuge(uint64_t from, uint64_t bytes) const;

 private:
  void* base_ = nullptr;
  uint64_t bytes_ = 0;
};

class Arena {
 public:
  static constexpr uint32_t kUnitBytes = 64;
  static constexpr uint32_t kUnitWords = 8;
  // 0 = none.
  using Ref = uint32_t;

  // kHuge: for what is looked at in no order, where page walks would cost more than the clearing
  // of huge pages. Others become huge in the kernel's own time.
  enum class Pages { kOrdinary, kHuge };
  explicit Arena(uint64_t bytes, Pages pages = Pages::kOrdinary);

  // 0 when no range of that size is left.
  Ref Allocate(uint32_t units);
  void Free(Ref ref, uint32_t units);
  // Grows a range in place; false when what lies behind it is taken.
  bool Extend(Ref ref, uint32_t units, uint32_t wanted);

  uint64_t* Words(Ref ref) const { return words_.As<uint64_t>() + uint64_t{ref} * kUnitWords; }
  // What is handed out.
  uint64_t used_bytes() const { return uint64_t{used_} * kUnitBytes; }

 private:
  static constexpr int kOrders = 19;  // ranges of up to 16 MiB
  static constexpr uint32_t kGrowUnits = uint32_t{1} << 15;

  void FreeRange(uint32_t unit, uint32_t units);
  void FreeBlock(uint32_t unit, int order);
  void Link(uint32_t unit, int order);
  void Unlink(uint32_t unit, int order);
  bool Grow(int order);

  const uint32_t units_;
  const Pages pages_;
  Reservation words_;
  Reservation orders_;  // a byte per unit: 1 + order where a free block begins
  uint32_t top_ = 0;    // never handed out from here on
  uint32_t used_ = 0;
  uint32_t free_[kOrders] = {};  // first block of each order, 0 = none
  uint32_t nonempty_ = 0;        // a bit per order
};

}  // namespace warmpath::index
