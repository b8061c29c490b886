// max-score-picker, random-picker, weighted-random-picker {maxNumOfEndpoints}.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

// SplitMix64: a short, seedable source, enough for shuffling a handful of endpoints.
class Draws {
 public:
  using result_type = uint64_t;
  explicit Draws(uint64_t seed) : state_(seed) {}
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return ~uint64_t{0}; }
  uint64_t operator()() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // In (0, 1).
  double Unit() { return (static_cast<double>((*this)() >> 11) + 0.5) * 0x1.0p-53; }

 private:
  uint64_t state_;
};

class MaxNumPicker : public Picker {
 public:
  explicit MaxNumPicker(const codec::Json& parameters) {
    const double wanted = NumberParameter(parameters, "maxNumOfEndpoints", 1);
    max_ = wanted < 1 ? 1 : static_cast<size_t>(std::min(wanted, 1e6));
  }

 protected:
  // Positions 0..n-1 in random order.
  static std::vector<size_t> Shuffled(size_t n, Draws& draws) {
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), size_t{0});
    std::shuffle(order.begin(), order.end(), draws);
    return order;
  }
  // By key, highest first; equal keys stay in the order they have.
  static void SortDescending(std::vector<size_t>& order, std::span<const double> keys) {
    std::vector<size_t> place(order.size());
    for (size_t i = 0; i < order.size(); ++i) place[order[i]] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return keys[a] != keys[b] ? keys[a] > keys[b] : place[a] < place[b];
    });
  }
  void Take(std::span<const size_t> candidates, const std::vector<size_t>& order,
            std::vector<size_t>& picked) const {
    for (size_t i = 0; i < order.size() && i < max_; ++i) picked.push_back(candidates[order[i]]);
  }
  // Any of those with the highest total, each as likely.
  static size_t OneOfTheBest(std::span<const double> totals, Draws& draws) {
    size_t best = 0;
    uint64_t ties = 1;
    for (size_t i = 1; i < totals.size(); ++i) {
      if (totals[i] < totals[best]) continue;
      if (totals[i] > totals[best]) ties = 0;
      ++ties;
      if (ties == 1 || draws() % ties == 0) best = i;
    }
    return best;
  }
  size_t max() const { return max_; }

 private:
  size_t max_ = 1;
};

class MaxScorePicker final : public MaxNumPicker {
 public:
  using MaxNumPicker::MaxNumPicker;
  void Pick(std::span<const size_t> candidates, std::span<const double> totals, uint64_t random,
            std::vector<size_t>& picked) const override {
    Draws draws(random);
    if (max() == 1) {
      picked.push_back(candidates[OneOfTheBest(totals, draws)]);
      return;
    }
    auto order = Shuffled(candidates.size(), draws);
    SortDescending(order, totals);
    Take(candidates, order, picked);
  }
};

class RandomPicker final : public MaxNumPicker {
 public:
  using MaxNumPicker::MaxNumPicker;
  void Pick(std::span<const size_t> candidates, std::span<const double>, uint64_t random,
            std::vector<size_t>& picked) const override {
    Draws draws(random);
    Take(candidates, Shuffled(candidates.size(), draws), picked);
  }
};

// Draws without replacement with probabilities proportional to the totals: the largest U^(1/total)
// win.
class WeightedRandomPicker final : public MaxNumPicker {
 public:
  using MaxNumPicker::MaxNumPicker;
  void Pick(std::span<const size_t> candidates, std::span<const double> totals, uint64_t random,
            std::vector<size_t>& picked) const override {
    Draws draws(random);
    auto order = Shuffled(candidates.size(), draws);
    std::vector<double> keys(totals.size());
    for (size_t i = 0; i < totals.size(); ++i) {
      // log(U)/total orders like U^(1/total) and does not underflow.
      keys[i] = totals[i] > 0 ? std::log(draws.Unit()) / totals[i] : -HUGE_VAL;
    }
    SortDescending(order, keys);
    Take(candidates, order, picked);
  }
};

template <typename T>
PluginType PickerType(std::string name) {
  PluginType type{std::move(name), Role::kPicker, {Integer("maxNumOfEndpoints")}, {}, {}};
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<T>(context.parameters);
  };
  return type;
}

}  // namespace

std::vector<PluginType> PickerTypes() {
  return {PickerType<MaxScorePicker>("max-score-picker"), PickerType<RandomPicker>("random-picker"),
          PickerType<WeightedRandomPicker>("weighted-random-picker")};
}

}  // namespace warmpath::scheduling
