// A separable convolution: 3×3 depthwise with ReLU6, then pointwise from 8 to 16 channels.
#include <sepconv/sepconv.h>

#include <cstdio>

int main() {
  using namespace sepconv;
  const Shape input{1, 8, 32, 32};
  const Tensor depthwise({8, 1, 3, 3}), pointwise({16, 8});
  Conv2dOptions options;
  options.padding = 1;
  options.activation = ActivationKind::kRelu6;
  const SeparableConv2d op(input, depthwise.view(), pointwise.view(), {}, {}, options);
  const Tensor x(input, Layout::kNHWC);
  const Tensor y = op(x.view());
  std::printf("%s: %s\n", op.describe().c_str(), to_string(y.shape()).c_str());
}
