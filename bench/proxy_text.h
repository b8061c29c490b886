// Text that looks like prose, the same on every machine: common words by a falling frequency, now
// and then a word nobody has seen, commas, sentences, paragraphs. About four bytes per token of
// today's vocabularies. Safe inside JSON strings as it is (a line's end is the two characters
// `\n`).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "load/random.h"

namespace warmpath::bench {

class Prose {
 public:
  explicit Prose(uint64_t seed) : random_(seed) {}

  // Appends exactly `bytes` bytes.
  void Append(std::string& out, size_t bytes) {
    const size_t end = out.size() + bytes;
    while (out.size() < end) Word(out);
    // An escape is not cut in half.
    out.resize(end);
    if (out.back() == '\\') out.back() = '.';
  }

 private:
  static constexpr std::string_view kWords[] = {
      "the",      "of",      "and",    "to",       "a",        "in",       "is",     "it",
      "that",     "was",     "for",    "on",       "he",       "as",       "with",   "his",
      "be",       "at",      "they",   "this",     "from",     "or",       "had",    "by",
      "not",      "but",     "what",   "some",     "we",       "can",      "out",    "other",
      "were",     "all",     "there",  "when",     "up",       "use",      "your",   "how",
      "said",     "an",      "each",   "she",      "which",    "do",       "their",  "time",
      "if",       "will",    "way",    "about",    "many",     "then",     "them",   "write",
      "would",    "like",    "so",     "these",    "her",      "long",     "make",   "thing",
      "see",      "him",     "two",    "has",      "look",     "more",     "day",    "could",
      "go",       "come",    "did",    "number",   "sound",    "no",       "most",   "people",
      "my",       "over",    "know",   "water",    "than",     "call",     "first",  "who",
      "may",      "down",    "side",   "been",     "now",      "find",     "any",    "new",
      "work",     "part",    "take",   "get",      "place",    "made",     "live",   "where",
      "after",    "back",    "little", "only",     "round",    "man",      "year",   "came",
      "show",     "every",   "good",   "me",       "give",     "our",      "under",  "name",
      "very",     "through", "just",   "form",     "sentence", "great",    "think",  "say",
      "help",     "low",     "line",   "differ",   "turn",     "cause",    "much",   "mean",
      "before",   "move",    "right",  "boy",      "old",      "too",      "same",   "tell",
      "does",     "set",     "three",  "want",     "air",      "well",     "also",   "play",
      "small",    "end",     "put",    "home",     "read",     "hand",     "port",   "large",
      "spell",    "add",     "even",   "land",     "here",     "must",     "big",    "high",
      "such",     "follow",  "act",    "why",      "ask",      "men",      "change", "went",
      "light",    "kind",    "off",    "need",     "house",    "picture",  "try",    "us",
      "again",    "animal",  "point",  "mother",   "world",    "near",     "build",  "self",
      "earth",    "father",  "head",   "stand",    "own",      "page",     "should", "country",
      "found",    "answer",  "school", "grow",     "study",    "still",    "learn",  "plant",
      "cover",    "food",    "sun",    "four",     "between",  "state",    "keep",   "eye",
      "never",    "last",    "let",    "thought",  "city",     "tree",     "cross",  "farm",
      "hard",     "start",   "might",  "story",    "saw",      "far",      "sea",    "draw",
      "left",     "late",    "run",    "while",    "press",    "close",    "night",  "real",
      "life",     "few",     "north",  "open",     "seem",     "together", "next",   "white",
      "children", "begin",   "got",    "walk",     "example",  "ease",     "paper",  "group",
      "always",   "music",   "those",  "both",     "mark",     "often",    "letter", "until",
      "mile",     "river",   "car",    "feet",     "care",     "second",   "book",   "carry",
      "took",     "science", "eat",    "room",     "friend",   "began",    "idea",   "fish",
      "mountain", "stop",    "once",   "base",     "hear",     "horse",    "cut",    "sure",
      "watch",    "color",   "face",   "wood",     "main",     "enough",   "plain",  "girl",
      "usual",    "young",   "ready",  "above",    "ever",     "red",      "list",   "though",
      "feel",     "talk",    "bird",   "soon",     "body",     "dog",      "family", "direct",
      "pose",     "leave",   "song",   "measure",  "door",     "product",  "black",  "short",
      "numeral",  "class",   "wind",   "question", "happen",   "complete", "ship",   "area",
      "half",     "rock",    "order",  "fire",     "south",    "problem",  "piece",  "told",
      "knew",     "pass"};
  static constexpr std::string_view kSyllables[] = {"ka",  "ven", "to",  "mir", "al",  "do",
                                                    "rin", "se",  "bru", "lo",  "qua", "ti",
                                                    "nor", "esh", "wy",  "pel"};

  void Word(std::string& out) {
    constexpr uint64_t kCount = std::size(kWords);
    const bool capital = sentence_ == 0;
    if (sentence_ > 0) out += ' ';
    ++sentence_;
    const size_t at = out.size();
    const uint64_t kind = random_.Below(100);
    if (kind < 5) {
      for (uint64_t i = 0, n = 2 + random_.Below(3); i < n; ++i)
        out += kSyllables[random_.Below(std::size(kSyllables))];
    } else if (kind < 7) {
      out += std::to_string(random_.Below(2000));
    } else {
      // The smaller of two draws: early words come more often.
      out += kWords[std::min(random_.Below(kCount), random_.Below(kCount))];
    }
    if (capital && out[at] >= 'a' && out[at] <= 'z')
      out[at] = static_cast<char>(out[at] - 'a' + 'A');
    if (sentence_ > 5 && random_.Below(9) == 0) {
      sentence_ = 0;
      out += ++sentences_ % 7 == 0 ? ".\\n\\n" : ". ";
    } else if (random_.Below(12) == 0) {
      out += ',';
    }
  }

  load::Random random_;
  int sentence_ = 0;  // words of the sentence so far
  int sentences_ = 0;
};

}  // namespace warmpath::bench
