"""The public names of gradtx, under the headings of the API documentation.

Type checkers and editors read this file, and so does `__init__.py`, which imports the module of a name
when the name is first used.
"""

# Values and base classes
from gradtx._core.transform import Transform as Transform
from gradtx._compose.recipe import Recipe as Recipe
from gradtx._core.unit import Elementwise as Elementwise
from gradtx._matrices.matrixwise import Matrixwise as Matrixwise
from gradtx._compose.wrapper import Wrapper as Wrapper
from gradtx._transforms.moments import Moment as Moment
from gradtx._core.layout import shared as shared
from gradtx._core.static import static as static
from gradtx._core.dtypes import accumulator as accumulator
from gradtx._core.values import Hyper as Hyper
from gradtx._core.values import Value as Value

# Composition
from gradtx._compose.chain import chain as chain
from gradtx._compose.chain import identity as identity
from gradtx._compose.named_chain import named_chain as named_chain
from gradtx._compose.fanout import constant as constant
from gradtx._compose.fanout import fanout as fanout
from gradtx._compose.once import once as once
from gradtx._compose.over_residual import over_residual as over_residual
from gradtx._core.foreign import foreign as foreign
from gradtx._compose.stateless import stateless as stateless
from gradtx._compose.stateless import stateless_with_tree_map as stateless_with_tree_map
from gradtx._compose.partition import masked as masked
from gradtx._compose.partition import partition as partition
from gradtx._matrices.matrix_axes import MatrixAxes as MatrixAxes
from gradtx._matrices.axes import hidden_matrices as hidden_matrices
from gradtx._matrices.laid_out import laid_out as laid_out
from gradtx._compose.by import by_path as by_path
from gradtx._compose.by import by_rank as by_rank
from gradtx._compose.by import by_shape as by_shape
from gradtx._compose.decay_mask import decay_mask as decay_mask
from gradtx._matrices.fan_in import by_fan_in as by_fan_in
from gradtx._matrices.blocks import transformer_blocks as transformer_blocks
from gradtx._wrappers.layerwise import layerwise as layerwise
from gradtx._wrappers.mup import mup as mup

# Transformations
from gradtx._transforms.adam import scale_by_adam as scale_by_adam
from gradtx._transforms.adam import scale_by_amsgrad as scale_by_amsgrad
from gradtx._transforms.nadam import scale_by_nadam_momentum as scale_by_nadam_momentum
from gradtx._transforms.adan import scale_by_adan as scale_by_adan
from gradtx._transforms.adopt import scale_by_adopt as scale_by_adopt
from gradtx._transforms.lion import scale_by_lion as scale_by_lion
from gradtx._matrices.block_moment import block_second_moment as block_second_moment
from gradtx._matrices.block_moment import scale_by_novograd as scale_by_novograd
from gradtx._optimizers.optimistic import (
    scale_by_optimistic_gradient as scale_by_optimistic_gradient,
)
from gradtx._transforms.grokfast import grokfast as grokfast
from gradtx._transforms.mars_gradient import mars_gradient as mars_gradient
from gradtx._transforms.accumulators import centered_second_moment as centered_second_moment
from gradtx._transforms.adadelta import scale_by_adadelta as scale_by_adadelta
from gradtx._transforms.adaptive import scale_by_adagrad as scale_by_adagrad
from gradtx._transforms.adaptive import scale_by_rms as scale_by_rms
from gradtx._transforms.adaptive import scale_by_stddev as scale_by_stddev
from gradtx._transforms.block_norms import block_norm as block_norm
from gradtx._transforms.accumulators import sum_of_squares as sum_of_squares
from gradtx._transforms.bias_correction import bias_correction as bias_correction
from gradtx._transforms.clip import adaptive_grad_clip as adaptive_grad_clip
from gradtx._transforms.clip import clip as clip
from gradtx._transforms.block_norms import clip_by_block_rms as clip_by_block_rms
from gradtx._transforms.block_norms import clip_by_block_norm as clip_by_block_norm
from gradtx._transforms.clip import clip_by_global_norm as clip_by_global_norm
from gradtx._transforms.clip_by_average_norm import clip_by_average_norm as clip_by_average_norm
from gradtx._transforms.clip_by_percentile import clip_by_percentile as clip_by_percentile
from gradtx._transforms.clip_by_z_score import clip_by_z_score as clip_by_z_score
from gradtx._matrices.blockwise import blockwise_second_moment as blockwise_second_moment
from gradtx._transforms.axis_sums import axis_sums_of_squares as axis_sums_of_squares
from gradtx._transforms.axis_sums import scale_by_sm3 as scale_by_sm3
from gradtx._transforms.factored import factored_second_moment as factored_second_moment
from gradtx._transforms.factored import scale_by_factored_rms as scale_by_factored_rms
from gradtx._transforms.freeze import freeze as freeze
from gradtx._transforms.decay import decoupled_weight_decay as decoupled_weight_decay
from gradtx._transforms.previous import delayed as delayed
from gradtx._transforms.previous import difference as difference
from gradtx._transforms.full_matrix import (
    scale_by_full_matrix_adagrad as scale_by_full_matrix_adagrad,
)
from gradtx._transforms.roots import rms as rms
from gradtx._transforms.roots import root as root
from gradtx._transforms.roots import running_max as running_max
from gradtx._transforms.moments import scale_by_momentum as scale_by_momentum
from gradtx._transforms.moments import second_moment as second_moment
from gradtx._wrappers.averaged import averaged as averaged
from gradtx._wrappers.schedule_free import schedule_free as schedule_free
from gradtx._wrappers.outer import outer as outer
from gradtx._wrappers.ema_nesterov import ema_nesterov as ema_nesterov
from gradtx._wrappers.perturbed import perturbed as perturbed
from gradtx._wrappers.cautious import cautious as cautious
from gradtx._wrappers.accumulate import accumulate as accumulate
from gradtx._wrappers.every import every as every
from gradtx._wrappers.skip import skip_nonfinite as skip_nonfinite
from gradtx._wrappers.spikes import skip_spikes as skip_spikes
from gradtx._wrappers.master_weights import master_weights as master_weights
from gradtx._wrappers.compensated import compensated as compensated
from gradtx._wrappers.loss_scale import dynamic_loss_scale as dynamic_loss_scale
from gradtx._wrappers.stored import stored as stored
from gradtx._wrappers.tunable import inject_hyperparams as inject_hyperparams
from gradtx._wrappers.tunable import tunable as tunable
from gradtx._wrappers.plateau import reduce_on_plateau as reduce_on_plateau
from gradtx._matrices.rows import equilibrate_rows as equilibrate_rows
from gradtx._matrices.rows import keep_norm as keep_norm
from gradtx._matrices.graft import graft as graft
from gradtx._matrices.norms import matrix_norm as matrix_norm
from gradtx._matrices.rows import scale_by_neuron_rms as scale_by_neuron_rms
from gradtx._matrices.rows import scale_to_rms as scale_to_rms
from gradtx._matrices.newton_schulz import newton_schulz as newton_schulz
from gradtx._matrices.orthogonalize import (
    orthogonalize_newton_schulz as orthogonalize_newton_schulz,
)
from gradtx._matrices.orthogonalize import scale_by_shape as scale_by_shape
from gradtx._matrices.polar_express import polar_express as polar_express
from gradtx._matrices.qk_clip import qk_clip as qk_clip
from gradtx._wrappers.weight_norm import weight_norm as weight_norm
from gradtx._matrices.hyperball import hyperball as hyperball
from gradtx._matrices.radial import brake_radial as brake_radial
from gradtx._matrices.radial import radial_step as radial_step
from gradtx._matrices.update_floor import floor_update_ratio as floor_update_ratio
from gradtx._transforms.param_size import scale_by_param_size as scale_by_param_size
from gradtx._matrices.balanced import orthogonalize_balanced as orthogonalize_balanced
from gradtx._matrices.matrix_blocks import leaf_blocks as leaf_blocks
from gradtx._matrices.matrix_blocks import matrix_blocks as matrix_blocks
from gradtx._matrices.products import scale_by_dual_norm as scale_by_dual_norm
from gradtx._matrices.products import scale_to_operator_norm as scale_to_operator_norm
from gradtx._transforms.dadapt import scale_by_dadapt as scale_by_dadapt
from gradtx._transforms.dog import scale_by_dog as scale_by_dog
from gradtx._transforms.prodigy import scale_by_prodigy as scale_by_prodigy
from gradtx._transforms.scale import scale as scale
from gradtx._transforms.scale import scale_by_learning_rate as scale_by_learning_rate
from gradtx._transforms.scale import scale_by_sign as scale_by_sign
from gradtx._transforms.parameters import absolute as absolute
from gradtx._transforms.parameters import parameters as parameters
from gradtx._transforms.scale_by_path import scale_by_path as scale_by_path
from gradtx._transforms.param_scale import scale_by_param_block_norm as scale_by_param_block_norm
from gradtx._transforms.param_scale import scale_by_param_block_rms as scale_by_param_block_rms
from gradtx._transforms.param_scale import scale_by_trust_ratio as scale_by_trust_ratio
from gradtx._transforms.adamax import infinity_moment as infinity_moment
from gradtx._transforms.adamax import scale_by_adamax as scale_by_adamax
from gradtx._transforms.pull_to_start import pull_to_start as pull_to_start
from gradtx._transforms.orthogonal_to_params import orthogonal_to_params as orthogonal_to_params
from gradtx._transforms.belief import scale_by_belief as scale_by_belief
from gradtx._wrappers.refreshed_average import refreshed_average as refreshed_average
from gradtx._wrappers.hutchinson import (
    hutchinson_estimator_diag_hessian as hutchinson_estimator_diag_hessian,
)
from gradtx._transforms.radam import scale_by_radam as scale_by_radam
from gradtx._transforms.yogi import yogi_moment as yogi_moment
from gradtx._transforms.yogi import scale_by_yogi as scale_by_yogi
from gradtx._transforms.rprop import scale_by_rprop as scale_by_rprop
from gradtx._transforms.normalize import normalize_by_update_norm as normalize_by_update_norm
from gradtx._transforms.normalize import normalize as normalize
from gradtx._transforms.centralize import centralize as centralize
from gradtx._transforms.constraints import zero_nans as zero_nans
from gradtx._transforms.constraints import keep_params_nonnegative as keep_params_nonnegative
from gradtx._transforms.noise import add_noise as add_noise
from gradtx._transforms.polyak import scale_by_polyak as scale_by_polyak

# Codecs
from gradtx._core.codecs import Codec as Codec
from gradtx._core.codec_bfloat16 import bfloat16_plus_8 as bfloat16_plus_8
from gradtx._core.codec_bfloat16 import bfloat16_stochastic as bfloat16_stochastic
from gradtx._core.codec_int8 import blockwise_int8 as blockwise_int8

# Bases
from gradtx._bases.in_basis import in_basis as in_basis
from gradtx._bases.scale_in_basis import scale_in_basis as scale_in_basis
from gradtx._bases.basis import Basis as Basis
from gradtx._bases.eigenbasis import eigenbasis as eigenbasis
from gradtx._bases.fixed import fixed_basis as fixed_basis
from gradtx._bases.whitening import whitening as whitening
from gradtx._bases.blocked import blocked as blocked
from gradtx._bases.fitted import fitted_whitening as fitted_whitening
from gradtx._bases.low_rank import low_rank as low_rank
from gradtx._bases.power_iteration import orthogonalize_low_rank as orthogonalize_low_rank

# Names from Optax
from gradtx._wrappers.accumulate import MultiSteps as MultiSteps
from gradtx._wrappers.skip import apply_if_finite as apply_if_finite
from gradtx._compose.partition import multi_transform as multi_transform
from gradtx._transforms.optax_names import add_decayed_weights as add_decayed_weights
from gradtx._transforms.optax_names import ema as ema
from gradtx._transforms.optax_names import scale_by_rss as scale_by_rss
from gradtx._transforms.optax_names import scale_by_schedule as scale_by_schedule
from gradtx._transforms.optax_names import set_to_zero as set_to_zero
from gradtx._transforms.optax_names import trace as trace

# Schedules
from gradtx._schedules.schedule import Schedule as Schedule
from gradtx._schedules.transitions import constant_schedule as constant_schedule
from gradtx._schedules.transitions import linear_schedule as linear_schedule
from gradtx._schedules.transitions import polynomial_schedule as polynomial_schedule
from gradtx._schedules.transitions import cosine_decay_schedule as cosine_decay_schedule
from gradtx._schedules.exponential import exponential_decay as exponential_decay
from gradtx._schedules.growth import half_life_schedule as half_life_schedule
from gradtx._schedules.growth import step_power as step_power
from gradtx._schedules.warmup import warmup_constant_schedule as warmup_constant_schedule
from gradtx._schedules.warmup import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
from gradtx._schedules.warmup import (
    warmup_exponential_decay_schedule as warmup_exponential_decay_schedule,
)
from gradtx._schedules.stable import warmup_stable_decay_schedule as warmup_stable_decay_schedule
from gradtx._schedules.inverse_sqrt import (
    warmup_inverse_sqrt_schedule as warmup_inverse_sqrt_schedule,
)
from gradtx._schedules.one_cycle import linear_onecycle_schedule as linear_onecycle_schedule
from gradtx._schedules.one_cycle import cosine_onecycle_schedule as cosine_onecycle_schedule
from gradtx._schedules.piecewise import piecewise_constant_schedule as piecewise_constant_schedule
from gradtx._schedules.piecewise import (
    piecewise_interpolate_schedule as piecewise_interpolate_schedule,
)
from gradtx._schedules.joined import join_schedules as join_schedules
from gradtx._schedules.joined import sgdr_schedule as sgdr_schedule

# Weights of averages
from gradtx._schedules.averaging import ema_weight as ema_weight
from gradtx._schedules.averaging import mean_weight as mean_weight
from gradtx._schedules.averaging import polynomial_weight as polynomial_weight
from gradtx._schedules.averaging import power_weight as power_weight

# Schedules that turn one convention into another
from gradtx._schedules.conventions import dampened as dampened
from gradtx._schedules.conventions import eps_hat as eps_hat
from gradtx._schedules.conventions import from_first as from_first
from gradtx._schedules.conventions import inverse_time as inverse_time
from gradtx._schedules.rectification import rectification as rectification
from gradtx._schedules.rectification import before_rectification as before_rectification
from gradtx._schedules.power_decay import power_decay as power_decay

# Optimizers
from gradtx._optimizers.adadelta import adadelta as adadelta
from gradtx._optimizers.adafactor import adafactor as adafactor
from gradtx._optimizers.adagrad import adagrad as adagrad
from gradtx._optimizers.adam import adam as adam
from gradtx._optimizers.adam import adamw as adamw
from gradtx._optimizers.amsgrad import amsgrad as amsgrad
from gradtx._optimizers.adam_mini import adam_mini as adam_mini
from gradtx._optimizers.came import came as came
from gradtx._optimizers.muon_variants import adamuon as adamuon
from gradtx._optimizers.muon import muon as muon
from gradtx._optimizers.muon_variants import normuon as normuon
from gradtx._optimizers.nadam import nadam as nadam
from gradtx._optimizers.nadam import nadamw as nadamw
from gradtx._optimizers.rmsprop import rmsprop as rmsprop
from gradtx._optimizers.scion import scion as scion
from gradtx._optimizers.soap import kl_soap as kl_soap
from gradtx._optimizers.soap import soap as soap
from gradtx._optimizers.soap_muon import soap_muon as soap_muon
from gradtx._optimizers.splus import splus as splus
from gradtx._optimizers.shampoo import shampoo as shampoo
from gradtx._optimizers.low_rank import galore as galore
from gradtx._optimizers.psgd import psgd_kron as psgd_kron
from gradtx._optimizers.dion import apollo as apollo
from gradtx._optimizers.dion import dion as dion
from gradtx._optimizers.adamc import adamc as adamc
from gradtx._optimizers.adan import adan as adan
from gradtx._optimizers.ademamix import ademamix as ademamix
from gradtx._optimizers.adopt import adopt as adopt
from gradtx._optimizers.weighted_momenta import aggmo as aggmo
from gradtx._optimizers.trust import fromage as fromage
from gradtx._optimizers.trust import lamb as lamb
from gradtx._optimizers.laprop import laprop as laprop
from gradtx._optimizers.trust import lars as lars
from gradtx._optimizers.lion import lion as lion
from gradtx._optimizers.mars import mars as mars
from gradtx._optimizers.muon_scaled import muon2 as muon2
from gradtx._optimizers.novograd import novograd as novograd
from gradtx._optimizers.optimistic import optimistic_adam_v2 as optimistic_adam_v2
from gradtx._optimizers.optimistic import optimistic_gradient_descent as optimistic_gradient_descent
from gradtx._optimizers.weighted_momenta import qhm as qhm
from gradtx._optimizers.muon_scaled import rmnp as rmnp
from gradtx._optimizers.lion import signum as signum
from gradtx._optimizers.ademamix import simplified_ademamix as simplified_ademamix
from gradtx._optimizers.stableadamw import stableadamw as stableadamw
from gradtx._optimizers.sgd import sgd as sgd
from gradtx._optimizers.adam_atan2 import adam_atan2 as adam_atan2
from gradtx._optimizers.dual_averaging import madgrad as madgrad
from gradtx._optimizers.dual_averaging import soda as soda
from gradtx._optimizers.schedule_free import schedule_free_adamw as schedule_free_adamw
from gradtx._optimizers.schedule_free import schedule_free_sgd as schedule_free_sgd
from gradtx._optimizers.lookahead import lookahead as lookahead
from gradtx._optimizers.sharpness import asam as asam
from gradtx._optimizers.sharpness import sam as sam
from gradtx._optimizers.aurora import aurora as aurora
from gradtx._optimizers.spectral import contra_muon as contra_muon
from gradtx._optimizers.spectral import namo as namo
from gradtx._optimizers.spectral import polargrad as polargrad
from gradtx._optimizers.parameter_free import dadapt_adamw as dadapt_adamw
from gradtx._optimizers.parameter_free import dog as dog
from gradtx._optimizers.parameter_free import prodigy as prodigy
from gradtx._optimizers.adabelief import adabelief as adabelief
from gradtx._optimizers.sophia import sophia as sophia
from gradtx._optimizers.sm3 import sm3 as sm3
from gradtx._optimizers.on_spheres import adamh as adamh
from gradtx._optimizers.on_spheres import muonh as muonh
from gradtx._optimizers.on_spheres import muown as muown
from gradtx._optimizers.adamax import adamax as adamax
from gradtx._optimizers.adamax import adamaxw as adamaxw
from gradtx._optimizers.radam import radam as radam
from gradtx._optimizers.yogi import yogi as yogi
from gradtx._optimizers.rprop import rprop as rprop
from gradtx._optimizers.sign_sgd import sign_sgd as sign_sgd
from gradtx._optimizers.noisy_sgd import noisy_sgd as noisy_sgd
from gradtx._optimizers.polyak_sgd import polyak_sgd as polyak_sgd

# Taps
from gradtx._wrappers.tap import tap as tap
from gradtx._wrappers.observe import observe as observe
from gradtx._training.readings import readings as readings
from gradtx._core.measure import Measure as Measure
from gradtx._wrappers.measures import norm as norm
from gradtx._wrappers.measures import update_rms as update_rms
from gradtx._wrappers.measures import update_ratio as update_ratio
from gradtx._wrappers.measures import gradient_cosine as gradient_cosine
from gradtx._wrappers.measures import clipped_fraction as clipped_fraction
from gradtx._wrappers.measures import nonfinite_count as nonfinite_count
from gradtx._wrappers.rounded_away import rounded_away as rounded_away
from gradtx._wrappers.orthogonality import orthogonality_error as orthogonality_error
from gradtx._wrappers.noise_scale import gradient_noise_scale as gradient_noise_scale

# Training, editing and inspection
from gradtx._training.apply import apply_updates as apply_updates
from gradtx._training.average import incremental_update as incremental_update
from gradtx._training.average import safe_increment as safe_increment
from gradtx._show.summary import summarize as summarize
from gradtx._show.plot import plot as plot
from gradtx._training.edit import axes as axes
from gradtx._training.check import check as check
from gradtx._training.check_state import check_state as check_state
from gradtx._training.evaluate import eval_params as eval_params
from gradtx._training.locate_nonfinite import locate_nonfinite as locate_nonfinite
from gradtx._training.lookahead import lookahead_params as lookahead_params
from gradtx._training.nnx_step import make_nnx_step as make_nnx_step
from gradtx._training.step import make_step as make_step
from gradtx._training.states import get as get
from gradtx._training.edit import replace as replace
from gradtx._training.reset import reset as reset
from gradtx._training.migrate import expanded_state as expanded_state
from gradtx._training.migrate import from_optax as from_optax
from gradtx._training.migrate import from_version_0_1 as from_version_0_1
from gradtx._training.carry import migrate as migrate
from gradtx._training.migrate import recipe_state as recipe_state
from gradtx._training.states import set as set
from gradtx._training.edit import stack as stack
from gradtx._text.parse import parse as parse
from gradtx._text.from_config import from_config as from_config
from gradtx._text.to_config import to_config as to_config
from gradtx._show.routing import routing as routing
from gradtx._core.numerics import global_norm as global_norm

# Meshes
from gradtx._wrappers.zero1 import zero1 as zero1
from gradtx._wrappers.offloaded import offloaded as offloaded
from gradtx._training.place import place as place
from gradtx._training.shardings import state_shardings as state_shardings
from gradtx._show.plan import plan as plan

# Sweeps
from gradtx._training.sweep import sweep as sweep
from gradtx._training.grid import grid as grid
from gradtx._training.samples import samples as samples
from gradtx._training.distributions import log_uniform as log_uniform
from gradtx._training.distributions import uniform as uniform

__version__: str
__all__: list[str]
