#pragma once

/// Depthwise and pointwise convolution at the hardware's limit. The whole public API.
#include "sepconv/activation.h"
#include "sepconv/attention.h"
#include "sepconv/batch_norm.h"
#include "sepconv/cpu.h"
#include "sepconv/error.h"
#include "sepconv/gradients.h"
#include "sepconv/graph.h"
#include "sepconv/io.h"
#include "sepconv/models.h"
#include "sepconv/network.h"
#include "sepconv/onnx.h"
#include "sepconv/ops.h"
#include "sepconv/tensor.h"
#include "sepconv/threads.h"
