#pragma once

#include "importer/builder.h"

namespace sepconv::importer {

/// What an operator's node becomes: a value for each of its outputs.
using Handler = Values (*)(GraphBuilder&, const OnnxNode&, const Values& in);
/// Null for an operator that is not known. Inputs that are not given are null constants; there are
/// kMostInputs of them, so that handlers need not ask.
Handler handler_of(const std::string& type);
inline constexpr std::size_t kMostInputs = 8;
/// What a handler makes of the inputs or, where it cannot take expressions or constants, of these
/// as values of their own.
Values apply(Handler handler, GraphBuilder& net, const OnnxNode& node, Values in);

// layers.cc
Values import_conv(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_conv_transpose(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_columns(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_pool(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_global_pool(GraphBuilder& net, const OnnxNode& node, const Values& in);
// norms.cc
Values import_batch_norm(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_layer_norm(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_rms_norm(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_group_norm(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_instance_norm(GraphBuilder& net, const OnnxNode& node, const Values& in);
// reductions.cc
Values import_mean(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_reduction(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_norm(GraphBuilder& net, const OnnxNode& node, const Values& in);
View mean_of(GraphBuilder& net, const ChannelMean& e);
View norms_of(GraphBuilder& net, const Norms& e, bool keeps_dims);
/// Over all positions.
View norms_over_positions(GraphBuilder& net, const View& x);
// products.cc
Values import_gemm(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_matmul(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_einsum(GraphBuilder& net, const OnnxNode& node, const Values& in);
/// a·b of the last two dimensions, the others side by side.
View matrix_product(GraphBuilder& net, const std::string& name, const Value& a, const Value& b);
// sums.cc
Values import_add(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_sum(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_negative(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_sub(GraphBuilder& net, const OnnxNode& node, const Values& in);
// factors.cc
Values import_mul(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_div(GraphBuilder& net, const OnnxNode& node, const Values& in);
// powers.cc
Values import_pow(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_sqrt(GraphBuilder& net, const OnnxNode& node, const Values& in);
// activations.cc
Values import_activation(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_function(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_prelu(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_clip(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_maximum(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_erf(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_softmax(GraphBuilder& net, const OnnxNode& node, const Values& in);
// choices.cc
Values import_greater(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_is_nan(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_where(GraphBuilder& net, const OnnxNode& node, const Values& in);
// shapes.cc
Values import_same(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_dropout(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_cast(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_shape(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_reshape(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_expand(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_tile(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_flatten(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_squeeze(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_unsqueeze(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_transpose(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_depth_to_space(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_space_to_depth(GraphBuilder& net, const OnnxNode& node, const Values& in);
// pads.cc
Values import_pad(GraphBuilder& net, const OnnxNode& node, const Values& in);
// resizes.cc
Values import_resize(GraphBuilder& net, const OnnxNode& node, const Values& in);
// parts.cc
Values import_split(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_slice(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_gather(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_gather_nd(GraphBuilder& net, const OnnxNode& node, const Values& in);
// assigned.cc
Values import_scatter_nd(GraphBuilder& net, const OnnxNode& node, const Values& in);
Values import_scatter_elements(GraphBuilder& net, const OnnxNode& node, const Values& in);
// concat.cc
Values import_concat(GraphBuilder& net, const OnnxNode& node, const Values& in);
// attention.cc
Values import_attention(GraphBuilder& net, const OnnxNode& node, const Values& in);
/// Whether a query looks at no key.
bool hides_all_keys(const AttentionScores& scores);
/// q·kᵀ, and that times a number or plus a constant, until it is known what becomes of it.
Value attention_scores(const GraphBuilder& net, const View& q, const View& k);
Value scaled_scores(const AttentionScores& scores, double by);
Value biased_scores(const GraphBuilder& net, const AttentionScores& scores, const OnnxConstant& by);
/// What the scores' softmax takes of the values.
View attend(GraphBuilder& net, const OnnxNode& node, const AttentionScores& scores, const View& v);
/// The scores, and their softmax, as values of their own.
View scores_of(GraphBuilder& net, const AttentionScores& e);
View weights_of(GraphBuilder& net, const AttentionWeights& e);
/// Whether tokens are the pixels of a square image, and the constant one token.
bool takes_class_token(const GraphBuilder& net, const ClassTokens& e);
/// Tokens behind a class token, with positions or, where these are null, as they are.
View class_tokens(GraphBuilder& net, const std::string& name, const ClassTokens& e,
                  const OnnxConstant& positions);

}  // namespace sepconv::importer
