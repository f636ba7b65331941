// Two devices whose memory the host cannot touch: a stand-in for accelerators, where there is none.
//
// Every allocation is a mapping of its own, without any right of access but while this file copies.
// A host that takes an address of theirs for its own dies of SIGSEGV, as it may, or worse, with
// a real device. `events` tells what the devices were told to do.
//
// Not promised: computing, copies other than whole contiguous ones of one dtype, a queue of work.

#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace {

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::Stream;

constexpr auto HERE = c10::DeviceType::PrivateUse1;
constexpr DeviceIndex DEVICES = 2;
thread_local DeviceIndex current = 0;

std::mutex taking; // two threads may write parts of one allocation, whose rights are one
std::vector<std::string> happened;

void tell(const std::string& what, int64_t device) {
  happened.push_back(what + " " + std::to_string(device));
}

// Memory

struct Mapping {
  void* start;
  size_t length;

  void allow(int rights) const {
    TORCH_CHECK(mprotect(start, length, rights) == 0, "mprotect: ", std::strerror(errno));
  }
};

void release(void* context) {
  auto* mapping = static_cast<Mapping*>(context);
  munmap(mapping->start, mapping->length);
  delete mapping;
}

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t length) override {
    const Device device(HERE, current);
    if (length == 0)
      return {nullptr, device};
    void* start = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TORCH_CHECK(start != MAP_FAILED, "mmap: ", std::strerror(errno));
    return {start, new Mapping{start, length}, release, device};
  }
  void copy_data(void*, const void*, size_t) const override {
    TORCH_CHECK(false, "a storage cannot be cloned here");
  }
} memory;

// Devices

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return HERE; }
  DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  Device getDevice() const override { return {HERE, current}; }
  void setDevice(Device device) const override { current = device.index(); }
  void uncheckedSetDevice(Device device) const noexcept override { current = device.index(); }
  Device exchangeDevice(Device device) const override {
    return {HERE, std::exchange(current, device.index())};
  }
  Stream getStream(Device device) const override { return Stream(Stream::DEFAULT, device); }
  Stream exchangeStream(Stream stream) const override { return stream; }
  void synchronizeDevice(DeviceIndex device) const override {
    const std::lock_guard<std::mutex> lock(taking);
    tell("synchronize", device);
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
} hooks;

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);
const bool hooked = (at::RegisterPrivateUse1HooksInterface(&hooks), true);

// Operations

using Dtype = std::optional<at::ScalarType>;
constexpr c10::DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);

Tensor empty(
    at::IntArrayRef size, Dtype dtype, std::optional<at::Layout>, std::optional<Device> device,
    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(size, &memory, KEYS, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(
    at::IntArrayRef size, at::IntArrayRef stride, Dtype dtype, std::optional<at::Layout>,
    std::optional<Device> device, std::optional<bool>) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_strided_generic(
      size, stride, &memory, KEYS, c10::dtype_or_default(dtype));
}

const Mapping& mapping(const Tensor& tensor) {
  return *static_cast<Mapping*>(tensor.storage().data_ptr().get_context());
}

// A real device may read the source of a copy that nobody waits for later, so none is asked for.
Tensor copy(const Tensor& from, const Tensor& to, bool non_blocking) {
  TORCH_CHECK(!non_blocking, "a copy that does not wait");
  TORCH_CHECK(from.is_contiguous() && to.is_contiguous(), "a copy between strides");
  TORCH_CHECK(from.dtype() == to.dtype() && from.sizes() == to.sizes(), "a copy that converts");
  TORCH_CHECK(from.is_cpu() != to.is_cpu(), "a copy from device to device");
  if (from.nbytes() == 0) // no mapping either
    return to;
  const std::lock_guard<std::mutex> lock(taking);
  const Mapping& ours = mapping(to.is_cpu() ? from : to);
  ours.allow(PROT_READ | PROT_WRITE);
  std::memcpy(to.data_ptr(), from.const_data_ptr(), from.nbytes());
  ours.allow(PROT_NONE);
  const std::string way = from.is_cpu() ? "write " : "read ";
  tell(way + std::to_string(from.nbytes()), (to.is_cpu() ? from : to).device().index());
  return to;
}

// What happened since the last call: "synchronize DEVICE", "write BYTES DEVICE", "read ...".
std::vector<std::string> events() {
  const std::lock_guard<std::mutex> lock(taking);
  return std::exchange(happened, {});
}

} // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", TORCH_FN(empty));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("_copy_from", TORCH_FN(copy));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
}

TORCH_LIBRARY(stand_in, m) {
  m.def("events() -> str[]", events);
}
