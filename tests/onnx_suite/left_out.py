"""What cconv leaves out of ONNX's test suite: the one list. docs/onnx_suite.md tells it in words.

tests/onnx_suite/test_suite.py fails if a case that is named here passes after all, if an entry names none, and if an
operator of cconv's has no case in scope and no line in WITHOUT_CASES.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LeftOut:
    """Cases of an operator.

    Attributes:
        reason: why cconv does not have it.
        cases: a pattern that their names match somewhere; all cases of the operator if empty.
    """

    operator: str
    reason: str
    cases: str = ""


STRINGS = "strings: a plan's tensors hold numbers and bools"
SEQUENCES = "sequences and optionals: a plan's values are tensors whose number and shapes are known when it is made"
TABLES = "classical machine learning, of the domain ai.onnx.ml"
LOOPS = "runs a graph as often as values say; a plan is a list of steps that is known ahead"
RECURRENT = "recurrent networks, which train by another walk"
BITS = "casts of numbers in 2 to 4 bits and of floats in 8, which no kernel does"
FLOATS = "floats in 4 and 8 bits: cconv computes in none of them; whole numbers it takes from 2 bits on"
CHANCE = "random numbers: the expected ones are NumPy's"
SHAPES = "the output's size follows from values that are computed at run time; a plan's shapes are fixed"
SAMPLING = "samples a feature map at places that are computed; there is no kernel for it"
INTEGERS = "computes in whole numbers; quantised models run in the form QuantizeLinear, DequantizeLinear"
SPECTRA = "complex numbers: signal processing"

NARROW = r"FLOAT8|FLOAT4|INT4|INT2|e8m0|e4m3|e5m2|float4|_u?int[24](_|$)"
NARROW_FLOATS = r"e4m3|e5m2|float4"

LEFT_OUT = [
    *(LeftOut(name, STRINGS) for name in ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit")),
    LeftOut("Equal", STRINGS, "string"),
    LeftOut("TfIdfVectorizer", "counts of words: no layer of a network on images"),
    LeftOut("ImageDecoder", "decodes files; images are read by the program that feeds the model"),
    LeftOut("OptionalHasElement", SEQUENCES, "has_element_(?!empty_no_input)"),
    *(LeftOut(name, SEQUENCES) for name in ("OptionalGetElement", "SequenceInsert", "SequenceMap")),
    LeftOut("SequenceConstruct", SEQUENCES),
    LeftOut("SplitToSequence", SEQUENCES, "^(?!test_sequence_model7)"),  # that one cuts out a piece of a known number
    LeftOut("Identity", SEQUENCES, "sequence|opt"),
    LeftOut("If", SEQUENCES, "seq|opt"),
    *(LeftOut(name, TABLES) for name in ("ArrayFeatureExtractor", "Binarizer", "LabelEncoder", "TreeEnsemble")),
    LeftOut("Loop", LOOPS),
    LeftOut("Scan", LOOPS),
    LeftOut("LinearAttention", "its definition is a Scan"),
    LeftOut("Range", "the definition of Range is a Loop; cconv has the operator itself", "expanded"),
    *(LeftOut(name, RECURRENT) for name in ("GRU", "LSTM", "RNN")),
    LeftOut("Cast", BITS, NARROW),
    LeftOut("CastLike", BITS, NARROW),
    LeftOut("QuantizeLinear", FLOATS, NARROW_FLOATS),
    LeftOut("DequantizeLinear", FLOATS, NARROW_FLOATS),
    LeftOut("Bernoulli", CHANCE),
    LeftOut("Dropout", CHANCE, "training_dropout(?!_zero)"),
    LeftOut("Unique", SHAPES),
    LeftOut("NonZero", SHAPES),
    LeftOut("NonMaxSuppression", SHAPES),
    *(LeftOut(name, SAMPLING) for name in ("GridSample", "RoiAlign", "DeformConv")),
    LeftOut("Col2Im", "the gradient of an unfolding, which no convolution of cconv's makes"),
    *(LeftOut(name, INTEGERS) for name in ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")),
    LeftOut("TopK", "sorts floats, int32 and int64", "uint64"),
    LeftOut("BitCast", "the bits of a float of the model are not those of the plan, which computes in one dtype"),
    LeftOut("Det", "determinants: no layer of a network on images"),
    LeftOut("TensorScatter", "writes to the cache of a language model"),
    LeftOut("DFT", SPECTRA),
    LeftOut("STFT", SPECTRA),
    LeftOut("MelWeightMatrix", "signal processing: a table that is made before a model runs"),
    LeftOut(
        "FlexAttention",
        "of the domain ai.onnx.preview; its definition names no opset of the operators it uses",
        "^(?!.*expanded)",
    ),
]

# Operators that cconv has and the suite has no case for, and why that is so.
WITHOUT_CASES = {
    "GlobalLpPool": "the suite has none",
    "NonZero": "its one case gives the data at run time",
}
