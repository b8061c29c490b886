#include "prompt/shared_tokenizer.h"

#include <filesystem>
#include <map>
#include <system_error>

#include "base/mutex.h"

namespace warmpath::prompt {

Result<std::shared_ptr<const Tokenizer>> LoadSharedTokenizer(const std::string& dir) {
  static Mutex mutex;
  static std::map<std::string, std::weak_ptr<const Tokenizer>> in_use;
  std::error_code error;
  const std::string canonical = std::filesystem::weakly_canonical(dir, error).string();
  MutexLock lock(mutex);
  std::weak_ptr<const Tokenizer>& known = in_use[canonical];
  if (auto tokenizer = known.lock()) return tokenizer;
  auto loaded = Tokenizer::Load(dir);
  if (loaded) known = *loaded;
  return loaded;
}

}  // namespace warmpath::prompt
