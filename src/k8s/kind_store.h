// The objects of one kind as its reflector tells them: read once, kept typed, with a word about
// what each change means. Loop-confined.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/log.h"
#include "codec/json.h"
#include "k8s/objects.h"
#include "k8s/reflector.h"

namespace warmpath::k8s {

// What a change takes away from those who use the objects.
template <typename T>
bool Loses(const T& /*before*/, const T* /*after*/) {
  return false;
}
// Somebody may be sending requests there.
template <>
inline bool Loses<Pod>(const Pod& before, const Pod* after) {
  return before.serving() &&
         (after == nullptr || !after->serving() || after->meta.uid != before.meta.uid ||
          after->ip != before.ip || after->restarts != before.restarts);
}

template <typename T>
class KindStore final : public ObjectSink {
 public:
  using Objects = std::map<std::string, std::shared_ptr<const T>>;  // by name
  struct Hooks {
    std::function<bool(const T&)> wanted;
    // After an object or a whole list changed what is kept, or a list came for the first time.
    std::function<void(bool loss)> changed;
    std::function<void()> status_changed;
  };

  KindStore(std::string kind, Result<T> (*read)(const codec::Json&), Hooks hooks)
      : kind_(std::move(kind)), read_(read), hooks_(std::move(hooks)) {}

  const Objects& objects() const { return objects_; }
  bool listed() const { return listed_; }
  void Clear() { objects_.clear(); }

  void ListBegin() override {
    incoming_.clear();
    listing_ = true;
    told_unreadable_ = false;
  }

  void Upsert(const codec::Json& object) override {
    auto read = read_(object);
    if (!read) {
      Unreadable(object, read.error().message);
      return;
    }
    const std::string name = read->meta.name;
    const auto known = objects_.find(name);
    const T* before = known == objects_.end() ? nullptr : known->second.get();
    if (!hooks_.wanted(*read)) {
      if (!listing_ && before != nullptr) Erase(known);
      return;
    }
    // One that did not change stays the same.
    const bool same = before != nullptr && SameBesidesVersion(*before, *read);
    auto next = same ? known->second : std::make_shared<const T>(std::move(*read));
    if (listing_) {
      incoming_[name] = std::move(next);
      return;
    }
    if (same) return;
    const bool loss = before != nullptr && Loses<T>(*before, next.get());
    objects_[name] = std::move(next);
    hooks_.changed(loss);
  }

  void Delete(const codec::Json& object) override {
    const auto meta = ReadMeta(object);
    if (!meta) return;
    const auto known = objects_.find(meta->name);
    if (known == objects_.end()) return;
    const std::string& uid = known->second->meta.uid;
    if (!uid.empty() && !meta->uid.empty() && uid != meta->uid) return;  // a predecessor's end
    Erase(known);
  }

  void ListEnd() override {
    listing_ = false;
    bool loss = false;
    for (const auto& [name, before] : objects_) {
      const auto after = incoming_.find(name);
      loss = loss || Loses<T>(*before, after == incoming_.end() ? nullptr : after->second.get());
    }
    const bool changed = !listed_ || objects_ != incoming_;
    listed_ = true;
    objects_ = std::exchange(incoming_, {});
    if (changed) hooks_.changed(loss);
  }

  void StatusChanged(const ReflectorStatus& /*status*/) override { hooks_.status_changed(); }

 private:
  static bool SameBesidesVersion(const T& before, T& after) {
    const std::string version =
        std::exchange(after.meta.resource_version, before.meta.resource_version);
    const bool same = before == after;
    after.meta.resource_version = version;
    return same;
  }

  void Erase(typename Objects::const_iterator known) {
    const bool loss = Loses<T>(*known->second, nullptr);
    objects_.erase(known);
    hooks_.changed(loss);
  }

  // What was known of it stays.
  void Unreadable(const codec::Json& object, const std::string& why) {
    const auto meta = ReadMeta(object);
    if (meta && listing_) {
      const auto known = objects_.find(meta->name);
      if (known != objects_.end()) incoming_.insert(*known);
    }
    if (std::exchange(told_unreadable_, true)) return;
    WP_LOG(kWarn, "kubernetes", "object cannot be read and is passed over", {"kind", kind_},
           {"name", meta ? meta->name : ""}, {"error", why});
  }

  const std::string kind_;
  Result<T> (*const read_)(const codec::Json&);
  const Hooks hooks_;
  Objects objects_;
  Objects incoming_;
  bool listing_ = false;
  bool listed_ = false;
  bool told_unreadable_ = false;
};

}  // namespace warmpath::k8s
