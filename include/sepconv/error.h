#pragma once

#include <stdexcept>
#include <string>

namespace sepconv {

/// Base of everything that sepconv throws. The message names the argument or file, what was given
/// and what was expected, in one line.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument has a value that the operation does not accept (shape, stride, padding, name …).
class ArgumentError : public Error {
 public:
  using Error::Error;
};

/// An argument has the wrong element type.
class TypeError : public Error {
 public:
  using Error::Error;
};

/// A file cannot be read or does not hold what its format prescribes.
class FileError : public Error {
 public:
  using Error::Error;
};

}  // namespace sepconv
