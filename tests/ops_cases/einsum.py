from ops_cases.case import Case


def einsum(equation, *shapes, **fields):
    return Case("Einsum", list(shapes), {"equation": equation}, note=equation, **fields)


SUMS = {"tolerance": 4e-6, "reason": "sums of up to 400 terms"}
CASES = [
    einsum("i->i", (5,)),
    einsum("ij->ji", (3, 4)),
    einsum("ij->", (3, 4)),
    einsum("ij->j", (3, 4), opset=12),
    einsum("bchw->bhwc", (2, 3, 4, 5)),
    einsum("bchw->bc", (2, 3, 4, 5)),
    einsum("ii->i", (4, 4)),
    einsum("ii", (4, 4)),
    einsum("bii->b", (3, 4, 4)),
    einsum("i,i->i", (5,), (5,)),
    einsum("i,j->ij", (5,), (3,)),
    einsum("i,i", (5,), (5,)),
    einsum("ij,jk->ik", (3, 4), (4, 5), opset=12),
    einsum("ij,jk", (3, 4), (4, 5)),
    einsum("ij,kj->ik", (3, 4), (5, 4)),
    einsum("ji,jk->ki", (4, 3), (4, 5)),
    einsum("ij,ij->i", (3, 4), (3, 4)),
    einsum("ij,j->i", (3, 4), (4,)),
    einsum("ij,jk->k", (3, 4), (4, 5)),
    einsum("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    einsum("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)),
    einsum("...ij,jk", (2, 3, 4), (4, 5)),
    einsum("...ij,...jk->ik...", (2, 1, 3, 4), (1, 5, 4, 6)),
    einsum("ij , jk -> i k", (3, 4), (4, 5)),
    # Attention as its authors write it, and as squeeze-and-excitation, bilinear layers and the like do.
    einsum("bhid,bhjd->bhij", (2, 3, 5, 7), (2, 3, 6, 7)),
    einsum("bihd,bjhd->bhij", (2, 5, 3, 7), (2, 6, 3, 7)),
    einsum("bhij,bjhd->bihd", (2, 3, 5, 6), (2, 6, 3, 7)),
    einsum("bhnd,bmnd->bhm", (2, 3, 4, 5), (2, 6, 4, 5)),
    einsum("bchw,bc->bchw", (2, 3, 4, 5), (2, 3)),
    einsum("nctv,vw->nctw", (2, 3, 4, 5), (5, 5)),
    einsum("nkctv,kvw->nctw", (2, 3, 4, 5, 6), (3, 6, 6)),
    einsum("bn,anm,bm->ba", (3, 4), (5, 4, 6), (3, 6)),
    einsum("ij,jk,kl->il", (3, 4), (4, 5), (5, 6)),
    einsum("i,j,k->kji", (2,), (3,), (4,)),
    einsum("iij,j->i", (3, 3, 4), (4,)),
    einsum("bij,bkj->bik", (4, 40, 400), (4, 30, 400), **SUMS),
    einsum("ij,jk->ik", (0, 4), (4, 5)),
    einsum("ab,cd,ae->", (2, 3), (4, 5), (2, 6)),
]
CASES += [einsum("bij,bjk->bik", (2, 3, 4), (2, 4, 5), opset=28)]
