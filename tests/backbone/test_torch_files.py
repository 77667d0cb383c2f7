"""PyTorch files without PyTorch: files that PyTorch 2.14 wrote, and pickles that want more than to give data."""

import base64
import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

from courier_tf.backbone.torch_files import MAGIC, TorchFileError, read_torch_file

#: `torch.save` of one dictionary, in both forms; compressed.
WRITTEN = {
    "zip": (
        "c-o~_%WoS+7#~04xTbjnNdtsJXmKEQ{9HS28k?nT3tQTB0m+Jl%*LK(EjGLU*5e>56-7b`?X4irh!a=1am{~#Dzz079FRB^PTUa(W@Zz2XHqv!"
        "GS+xyYkrS!X20L=k{*d76py1lV;GGh)2my}bv)NFiJ5ABYHR8sS{BAe_$HuawT}YU+y=HGbQ8kKD&uPt&up$*1R{0fQleC?Lz;FwQS<Ohr)f88"
        "1UqfltF31f5KShl{T$<Z<|>9hACk~)*CZeKe<mPS4be4e=&wfTwchGLT#perc1=fmSdVN$LXYU7EqLa3z3$pJu9K$gv=djo2KI2{LbFa1aD2vq"
        "0Rn>t3{_*4g>*azH(=PJ7OXzYm&m|~#i>Ubbwm$u!I&Om3eVoQ7{hY}o;P5;O7{-6Opn0CF5cQfp17t*DTE>?eN!*^$QKE`WWW?hTBdy+UiOhY"
        "1z)0nb?ZIJ&1B&fN*N~bDz9@BruEP!yynxLB5>M(*ZBdg(EWBGDe$R$2Qx~SbB1%~;0>Si%^l8J#(Bo)Oc9tfAk8`JZpR^z5jZcq&T5x0%lYz<"
        "qkJI(dCE64<MR{<C<YYy!P?m5`&{aAFVIai*D%3e0_KIID8N~t`5bdfO)jvn^S;6&fwBRWTl~jcUx8}C+k9so*THZ>AX4BRN`we#j0myAyy&0I"
        "C7<kF0`D21cX-{n<<>2@tVcMVXA%tWUo8LOw+3I~P`_=s@-bXZa()w*uH3?%)RNvGpZ?|F;Zb^zvbof=!^Y7}x5HA`U2n}KwRP;Z=}oJtr=&*f"
        "F)~c<=YM|xl38H0x7;KuK9bvMw3=x*SDiKN5KYZJouW9DJTp-K4E_#NiSQE*jG%JYz{=+YyR0uY_1s}}cZc01#Kz3S=J`KQu!fF3(Ze8G6jE(2"
        "t*K{^V1QDV5!$BnWCfv5=)6PcPZj3q$J`gK3A$inA4jvIql~5|(E;@7*r57|>Q?C7p!0jKKYr)o*N4#09!P%?Z8I(9{{3%Rr$qPBs)$-SO<g$3"
        "@h@+eD_lQ3H9d9+{rpk&`*)a`ht`9KE)$LK<6%McP|(y8I{f{&vB<RlTmIoUv3~S4^(#lMzjvKOXsoN%O|>CeESF&J?|!%X(f;`{g|d$VjN5Nx"
        "uSpZ^hRGiEwPr(8QwOXjt(4{q+4+K!FO~|~v{EP(OPQQfR7%BCDX+}aPcEy>r<u#szuvf)q&|||Wr&&W`V1!i@E+&#dz6e02KcyuT#2Aw&j^_$"
        "7{ZeR$=x8yp5&K#f<ZbW@EB3FH^60hF!crn_=6~tvRB3i6HCNeeG)b!V}l7KV*iq{Ss5El4-xxeOv2`5Y_RJ^>^&Kqm$AXF6|wB4Nlb}d?Bn}d"
        "(3P=@tQ+jNApu*7Be`p3aIg)g1n@Tj@Z%eFNsq;5ciTB~ri&bquEmIdEgjp9*BDP)_qhMtf79uU`IrH|-e3DaLSxif"
    ),
    "pickles": (
        "c-noFSyR(c6vwl4!6=BkxZ>Wr)KJ>Ab)gjz(6Gjryf8JSR}v>AJ;@C-I>Ss~K=8>A;De7o`Vsn3eDxzZ!-FR`Z51qL<|Mh>?|<+AoZAvUNzUGv"
        ">0hJozAcU9TEhHK5#O7@W%OZ=<C?xlJ=1gQ8^jN6&jlVQ=z}=o*pxb?PTYoVxFGE45_Zz}O;Qi+4<rC_6A~FciJgJv`4p0>po`eDT?#2Rp(i4S"
        "=dM9oO@v`rGn&8dHHZWJCI}gQAX-m-!(Ou}h$i)X)5_IDYCC~c_sME#JB>OeZs7U#jl6`C89mL`c)qblAQ>-_rXA0quj5V$Qu+|isT7ogQm)8K"
        "sjL(gNVDyk%@79E)B=Sg%POY|s<;i3DysZ89Njh135S>zjR>Sgzd?M`n6gbO!Lh6cgA|4|IIgE6BSPOL4H&j?LsruIBUqB<VzHbrDl(j~Vxg0f"
        "kf;jVa7yJPz0<o^#5+UbtOn<pQ%wUcJpVu1NQZV|Sxq1YX&2*dUy5m$DO}OuDx+D3^A<*9TF0PS?CSY*?SOz%k_&Jh1q2kh!F<_*n<~Erw_^Bh"
        "3U@S!)3=J*av{5qKFRzaQ+f(_4=R)kWw_T-xZhED5Gmwhg@+Vm4aS&)>4jKC`F#p=SV}$m_`dv><Vq=Dh62)gq!*E%&Bj!PLP>)%D;b9vEN7KN"
        "sti+LtP@In2_F5E2&OY8mx_6K+|hXwodOT=G<r?MdQ}QF4W8|=#^gtMuE7+`i0iooUL1lg$m4mKMl6TenFz~8WilJ*_hpQJMM2eIE@Tdore|6("
        "uZj%r8<fDpO!WuH9yY_pvjniX0!ta4$F>2>3p*sbhbz%N>~lZ(ex?fj91#2MKhdvfll=-U)vq?vB$wiPPnF}^7^5|gdxP;A<9m(o45m9@zBj!!"
        "(f#|25%nX3!?iVx7RJ|_&>foK+TH(lwbuR(>10C$"
    ),
}


def written(form: str) -> bytes:
    return zlib.decompress(base64.b85decode("".join(WRITTEN[form])))


@pytest.fixture
def read(tmp_path):
    def read(content: bytes):
        (tmp_path / "weights.pth").write_bytes(content)
        return read_torch_file(tmp_path / "weights.pth")

    return read


@pytest.mark.parametrize("form", WRITTEN)
def test_what_pytorch_wrote(read, form):
    content = read(written(form))
    model = content.pop("model")
    assert content == {"epoch": 3, "rate": 0.5, "names": ["a", None, True]}
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = {
        "straight": numbers + 0.5,
        "turned": numbers.T,
        "part": numbers[1:, 1:],
        "half": np.array([1.5, -2.0], np.float32),
        "brain": np.array([1.5, -3.0], np.float32),
        "count": np.array(7, np.int64),
        "learned": np.array([0.25], np.float32),
        "none": np.zeros([0, 3], np.float32),
    }
    assert list(model) == list(expected)
    for name, value in expected.items():
        assert model[name].dtype == value.dtype, name
        np.testing.assert_array_equal(model[name], value)


@pytest.mark.parametrize("form", WRITTEN)
def test_a_cut_file_is_refused_wherever_it_is_cut(read, form):
    content = written(form)
    for end in np.random.default_rng(0).integers(0, len(content) - 1, 60):
        with pytest.raises(TorchFileError):
            read(content[:end])


@pytest.mark.parametrize("form", WRITTEN)
def test_bytes_that_changed_end_in_data_or_one_error(read, form):
    """No other error comes, whatever stands in the file."""
    rng = np.random.default_rng(1)
    for _ in range(150):
        content = bytearray(written(form))
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(256)
        try:
            read(bytes(content))
        except TorchFileError as error:
            assert "\n" not in str(error)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<i", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def tensor(shape, strides, offset=0, kind="FloatStorage", count=4, call="_rebuild_tensor_v2") -> bytes:
    """A pickle's instructions for a tensor in the storage "0"."""
    storage = (
        b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text("0") + text("cpu") + number(count) + b"tQ"
    )
    sizes = b"".join(b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (shape, strides))
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n" + call.encode() + b"\n(" + storage + number(offset) + sizes + hooks + b"tR"


def archive(pickle: bytes, compression=zipfile.ZIP_STORED, part=bytes(16)) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as packed:
        packed.writestr("a/data.pkl", b"\x80\x02" + pickle + b".")
        packed.writestr("a/data/0", part)
    return stream.getvalue()


def test_views_of_a_storage_against_numpy(read):
    values = np.random.default_rng(2).normal(size=24).astype("<f8")
    pickle = tensor([2, 3], [1, 6], 4, "DoubleStorage", 24)
    expected = np.lib.stride_tricks.as_strided(values[4:], [2, 3], [8, 48]).astype(np.float32)
    np.testing.assert_array_equal(read(archive(pickle, part=values.tobytes())), expected)


@pytest.mark.parametrize(
    ("pickle", "reason"),
    {
        "a call": (b"cos\nsystem\n(" + text("false") + b"tR", "call os.system"),
        "a call by two texts": (text("builtins") + text("eval") + b"\x93(" + text("1") + b"tR", "call builtins.eval"),
        "a line break in a name": (text("o\ns") + text("x") + b"\x93)R", r"call o\\ns\.x"),
        "an object": (b"cos\nsystem\n)\x81", "NEWOBJ"),
        "an instance": (b"(ios\nsystem\n", "INST"),
        "state for a function": (b"cos\nsystem\n}b", "a wrong place"),
        "an extension": (b"\x82\x01", "EXT1"),
        "a call of data": (text("x") + b")R", "call str"),
        "beyond the end": (tensor([5], [1]), "reaches beyond"),
        "before the start": (tensor([1], [1], -1), "no possible shape"),
        "backwards": (tensor([2], [-1], 3), "no possible shape"),
        "repeated": (tensor([1_000_000, 1_000_000], [0, 0]), "reaches beyond"),
        "another number of strides": (tensor([2, 2], [1]), "no possible shape"),
        "another type of numbers": (tensor([1], [1], kind="ComplexFloatStorage"), "torch.ComplexFloatStorage"),
        "a tuple as key": (b"})N" + b"s", "a wrong place"),
        "nothing": (b"", "damaged"),
        "itself": (b"]q\x00h\x00a", "recursion"),
    }.values(),
)
def test_what_is_more_than_data_is_refused_in_one_line(read, pickle, reason, capfd):
    with pytest.raises(TorchFileError, match=reason) as refused:
        read(archive(pickle))
    assert "\n" not in str(refused.value)


def test_a_compressed_archive_is_refused(read):
    with pytest.raises(TorchFileError, match="compressed"):
        read(archive(tensor([1], [1]), zipfile.ZIP_DEFLATED))


def test_other_zip_files_and_other_pickles(read):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("photo.png", b"")
    with pytest.raises(TorchFileError, match=r"needs one data\.pkl"):
        read(stream.getvalue())
    with pytest.raises(TorchFileError, match="no PyTorch file"):
        read(b"\x80\x02" + number(7) + b".")


def test_a_part_that_claims_more_than_the_file_has(read):
    def pickle(content: bytes) -> bytes:
        return b"\x80\x02" + content + b"."

    magic = b"\x8a\x0a" + MAGIC.to_bytes(10, "little")
    head = pickle(magic) + pickle(number(1001)) + pickle(b"}")
    content = head + pickle(tensor([1], [1], count=2**31 - 1)) + pickle(b"]" + text("0") + b"a")
    with pytest.raises(TorchFileError, match="it is cut"):
        read(content + struct.pack("<q", 2**31 - 1) + bytes(8))
