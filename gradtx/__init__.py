"""gradtx: composable gradient transformations for JAX, each of them a value."""

# What everything is
from gradtx._core import Transform as Transform
from gradtx._recipe import Recipe as Recipe
from gradtx._elementwise import Elementwise as Elementwise
from gradtx._static import static as static
from gradtx._tree import accumulator as accumulator
from gradtx._value import Hyper as Hyper
from gradtx._value import Value as Value

# Composition
from gradtx._compose import chain as chain
from gradtx._compose import identity as identity
from gradtx._fanout import constant as constant
from gradtx._fanout import fanout as fanout
from gradtx._foreign import foreign as foreign
from gradtx._route import freeze as freeze
from gradtx._route import masked as masked
from gradtx._route import partition as partition
from gradtx._matrix import MatrixAxes as MatrixAxes
from gradtx._matrix import hidden_matrices as hidden_matrices
from gradtx._rules import by_path as by_path
from gradtx._rules import by_rank as by_rank

# Transformations
from gradtx._adam import scale_by_adam as scale_by_adam
from gradtx._adam import scale_by_nadam_momentum as scale_by_nadam_momentum
from gradtx._adaptive import centered_second_moment as centered_second_moment
from gradtx._adaptive import scale_by_adadelta as scale_by_adadelta
from gradtx._adaptive import scale_by_adagrad as scale_by_adagrad
from gradtx._adaptive import scale_by_rms as scale_by_rms
from gradtx._adaptive import scale_by_stddev as scale_by_stddev
from gradtx._adaptive import sum_of_squares as sum_of_squares
from gradtx._bias_correction import bias_correction as bias_correction
from gradtx._clip import adaptive_grad_clip as adaptive_grad_clip
from gradtx._clip import clip as clip
from gradtx._clip import clip_by_block_rms as clip_by_block_rms
from gradtx._clip import clip_by_global_norm as clip_by_global_norm
from gradtx._decay import decoupled_weight_decay as decoupled_weight_decay
from gradtx._full_matrix import scale_by_full_matrix_adagrad as scale_by_full_matrix_adagrad
from gradtx._moments import rms as rms
from gradtx._moments import root as root
from gradtx._moments import running_max as running_max
from gradtx._moments import scale_by_momentum as scale_by_momentum
from gradtx._moments import second_moment as second_moment
from gradtx._cautious import cautious as cautious
from gradtx._neurons import equilibrate_rows as equilibrate_rows
from gradtx._neurons import keep_norm as keep_norm
from gradtx._neurons import scale_by_neuron_rms as scale_by_neuron_rms
from gradtx._neurons import scale_to_rms as scale_to_rms
from gradtx._newton_schulz import newton_schulz as newton_schulz
from gradtx._orthogonal import orthogonalize_newton_schulz as orthogonalize_newton_schulz
from gradtx._orthogonal import scale_by_shape as scale_by_shape
from gradtx._polynomials import polar_express as polar_express
from gradtx._qk_clip import qk_clip as qk_clip
from gradtx._scale import scale as scale
from gradtx._scale import scale_by_learning_rate as scale_by_learning_rate
from gradtx._scale import scale_by_sign as scale_by_sign

# Optax's spellings
from gradtx._spellings import add_decayed_weights as add_decayed_weights
from gradtx._spellings import ema as ema
from gradtx._spellings import scale_by_rss as scale_by_rss
from gradtx._spellings import scale_by_schedule as scale_by_schedule
from gradtx._spellings import set_to_zero as set_to_zero
from gradtx._spellings import trace as trace

# Schedules that turn one convention into another
from gradtx._convention import dampened as dampened
from gradtx._convention import eps_hat as eps_hat
from gradtx._convention import inverse_time as inverse_time

# Optimizers
from gradtx.optimizers._adadelta import adadelta as adadelta
from gradtx.optimizers._adagrad import adagrad as adagrad
from gradtx.optimizers._adam import adam as adam
from gradtx.optimizers._adam import adamw as adamw
from gradtx.optimizers._adam import amsgrad as amsgrad
from gradtx.optimizers._muon import adamuon as adamuon
from gradtx.optimizers._muon import muon as muon
from gradtx.optimizers._muon import normuon as normuon
from gradtx.optimizers._muon import scion as scion
from gradtx.optimizers._nadam import nadam as nadam
from gradtx.optimizers._nadam import nadamw as nadamw
from gradtx.optimizers._rmsprop import rmsprop as rmsprop
from gradtx.optimizers._sgd import sgd as sgd

# Use
from gradtx._apply import apply_updates as apply_updates
from gradtx._display import summarize as summarize
from gradtx._edit import axes as axes
from gradtx._lookahead import eval_params as eval_params
from gradtx._lookahead import lookahead_params as lookahead_params
from gradtx._edit import get as get
from gradtx._edit import replace as replace
from gradtx._edit import set as set
from gradtx._edit import stack as stack
from gradtx._parse import parse as parse
from gradtx._routing import routing as routing
from gradtx._tree import global_norm as global_norm

__version__ = "0.1.0"
