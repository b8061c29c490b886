#include "index/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace warmpath::index {
namespace {

constexpr uint64_t kHugePage = uint64_t{2} << 20;
// A reader with a stale length looks at most this far behind a range.
constexpr uint64_t kSlack = uint64_t{1} << 20;

int CeilOrder(uint32_t units) {
  return static_cast<int>(std::bit_width(units - 1));
}

}  // namespace

Reservation::Reservation(uint64_t bytes) {
  bytes_ = (bytes + kSlack + kHugePage - 1) / kHugePage * kHugePage;
  base_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
               -1, 0);
  WP_CHECK(base_ != MAP_FAILED);
}

Reservation::~Reservation() {
  munmap(base_, bytes_);
}

void Reservation::WantHuge(uint64_t from, uint64_t bytes) const {
  madvise(static_cast<char*>(base_) + from, bytes, MADV_HUGEPAGE);
}

// Unit 0 is never handed out.
Arena::Arena(uint64_t bytes, Pages pages)
    : units_(static_cast<uint32_t>(std::min<uint64_t>(
          (bytes + kHugePage - 1) / kHugePage * kGrowUnits, UINT32_MAX - kGrowUnits))),
      pages_(pages),
      words_(uint64_t{units_} * kUnitBytes),
      orders_(units_) {}

void Arena::Link(uint32_t unit, int order) {
  const uint32_t next = free_[order];
  Save(Words(unit), next);
  if (next != 0) Save(Words(next), uint64_t{unit} << 32 | (Load(Words(next)) & UINT32_MAX));
  free_[order] = unit;
  nonempty_ |= 1u << order;
  orders_.As<uint8_t>()[unit] = static_cast<uint8_t>(order + 1);
}

void Arena::Unlink(uint32_t unit, int order) {
  const uint64_t links = Load(Words(unit));
  const auto next = static_cast<uint32_t>(links);
  const auto previous = static_cast<uint32_t>(links >> 32);
  if (previous != 0) {
    Save(Words(previous), (Load(Words(previous)) & ~uint64_t{UINT32_MAX}) | next);
  } else {
    free_[order] = next;
    if (next == 0) nonempty_ &= ~(1u << order);
  }
  if (next != 0) Save(Words(next), uint64_t{previous} << 32 | (Load(Words(next)) & UINT32_MAX));
  orders_.As<uint8_t>()[unit] = 0;
}

void Arena::FreeBlock(uint32_t unit, int order) {
  const uint8_t* orders = orders_.As<uint8_t>();
  while (order + 1 < kOrders) {
    const uint32_t buddy = unit ^ (1u << order);
    if (buddy + (1u << order) > top_ || orders[buddy] != order + 1) break;
    Unlink(buddy, order);
    unit = std::min(unit, buddy);
    ++order;
  }
  Link(unit, order);
}

void Arena::FreeRange(uint32_t unit, uint32_t units) {
  while (units > 0) {
    const int aligned = unit == 0 ? kOrders - 1 : std::countr_zero(unit);
    const int order = std::min({aligned, static_cast<int>(std::bit_width(units)) - 1, kOrders - 1});
    FreeBlock(unit, order);
    unit += 1u << order;
    units -= 1u << order;
  }
}

bool Arena::Grow(int order) {
  const uint32_t size = std::max(kGrowUnits, 1u << order);
  const uint32_t begin = (top_ + size - 1) / size * size;
  if (begin > units_ || units_ - begin < size) return false;
  const uint32_t from = std::max(top_, 1u);
  if (begin >= 2 * kGrowUnits) {
    // What will be handed out next, or what was handed out last.
    const bool next = pages_ == Pages::kHuge;
    words_.WantHuge(uint64_t{next ? begin : begin - kGrowUnits} * kUnitBytes,
                    uint64_t{next ? size : kGrowUnits} * kUnitBytes);
  }
  top_ = begin + size;
  FreeRange(from, top_ - from);
  return true;
}

Arena::Ref Arena::Allocate(uint32_t units) {
  const int order = CeilOrder(units);
  if (order >= kOrders) return 0;
  uint32_t fitting = nonempty_ >> order;
  // Unit 0 is not there to be had, so the first growth may miss the order asked for.
  for (int tries = 0; fitting == 0; ++tries) {
    if (tries == 2 || !Grow(order)) return 0;
    fitting = nonempty_ >> order;
  }
  const int found = order + std::countr_zero(fitting);
  const uint32_t unit = free_[found];
  Unlink(unit, found);
  FreeRange(unit + units, (1u << found) - units);
  used_ += units;
  return unit;
}

void Arena::Free(Ref ref, uint32_t units) {
  used_ -= units;
  FreeRange(ref, units);
}

bool Arena::Extend(Ref ref, uint32_t units, uint32_t wanted) {
  const uint32_t behind = ref + units;
  if (behind >= top_) return false;
  const uint8_t order = orders_.As<uint8_t>()[behind];
  if (order == 0) return false;
  const uint32_t size = 1u << (order - 1);
  if (size < wanted - units) return false;
  Unlink(behind, order - 1);
  used_ += wanted - units;
  FreeRange(ref + wanted, size - (wanted - units));
  return true;
}

}  // namespace warmpath::index
