// Internal to net: a move-only function kept in place. What waits for a socket or for its turn on a
// loop costs no allocation. Not thread-safe.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace warmpath::net {

template <typename Signature>
class InlineFunction;

template <typename... Args>
class InlineFunction<void(Args...)> {
 public:
  static constexpr size_t kCapacity = 48;

  InlineFunction() = default;
  template <typename F>
    requires(!std::is_same_v<std::decay_t<F>, InlineFunction> && std::is_invocable_v<F&, Args...>)
  InlineFunction(F&& function) {  // NOLINT(google-explicit-constructor): as std::function
    using Held = std::decay_t<F>;
    static_assert(sizeof(Held) <= kCapacity && alignof(Held) <= alignof(void*));
    static_assert(std::is_nothrow_move_constructible_v<Held>);
    ::new (static_cast<void*>(storage_)) Held(std::forward<F>(function));
    operations_ = &kOperations<Held>;
  }
  InlineFunction(InlineFunction&& other) noexcept { Take(other); }
  InlineFunction& operator=(InlineFunction&& other) noexcept {
    if (this != &other) {
      Reset();
      Take(other);
    }
    return *this;
  }
  ~InlineFunction() { Reset(); }
  InlineFunction(const InlineFunction&) = delete;
  InlineFunction& operator=(const InlineFunction&) = delete;

  explicit operator bool() const { return operations_ != nullptr; }
  void operator()(Args... args) { operations_->call(storage_, std::forward<Args>(args)...); }
  void Reset() {
    if (operations_ != nullptr) std::exchange(operations_, nullptr)->destroy(storage_);
  }

 private:
  struct Operations {
    void (*call)(void*, Args...);
    void (*move)(void* from, void* to);  // `from` is destroyed
    void (*destroy)(void*);
  };
  template <typename Held>
  static constexpr Operations kOperations = {
      [](void* held, Args... args) { (*static_cast<Held*>(held))(std::forward<Args>(args)...); },
      [](void* from, void* to) {
        ::new (to) Held(std::move(*static_cast<Held*>(from)));
        static_cast<Held*>(from)->~Held();
      },
      [](void* held) { static_cast<Held*>(held)->~Held(); }};

  void Take(InlineFunction& other) {
    operations_ = std::exchange(other.operations_, nullptr);
    if (operations_ != nullptr) operations_->move(other.storage_, storage_);
  }

  const Operations* operations_ = nullptr;
  alignas(void*) std::byte storage_[kCapacity];
};

}  // namespace warmpath::net
